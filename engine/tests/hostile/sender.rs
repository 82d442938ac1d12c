//! A source over links provided by the test.

use std::collections::VecDeque;
use std::os::unix::net::UnixStream;
use std::thread::{self, JoinHandle};

use retpath_engine::Channel;
use retpath_engine::driver::Connector;
use retpath_engine::socket::{Address, ChannelError, Link};
use retpath_engine::source::{Source, SourcePhase};

use retpath_support::loops::{LONG, Still, connect, serve_with};
use retpath_support::wire::{blocks, config, image};

/// A connector that returns the given links, then connects to an address.
struct First {
    links: VecDeque<Link>,
    then: Address,
}

impl Connector for First {
    fn connect(&mut self, _: Channel) -> Result<Link, ChannelError> {
        match self.links.pop_front() {
            Some(link) => Ok(link),
            None => self.then.connect(false),
        }
    }
}

fn take_over(connector: &mut dyn Connector) {
    let mut core = Source::taking_over(config(None), blocks()).expect("valid configuration");
    let mut machine = Still(vec![image()]);
    serve_with(&mut core, &mut machine, connector, LONG).expect("migration completes");
    assert_eq!(core.phase(), SourcePhase::Completed);
}

/// Takes over a migration on a given link, and reconnects if it breaks.
pub(crate) fn serve_over(link: Link, then: &Address) {
    take_over(&mut First {
        links: [link].into(),
        then: then.clone(),
    });
}

/// A connector that keeps its last link open.
struct Held {
    address: Address,
    last: Option<UnixStream>,
}

impl Connector for Held {
    fn connect(&mut self, _: Channel) -> Result<Link, ChannelError> {
        let socket = connect(&self.address);
        self.last = Some(socket.try_clone().expect("descriptor can be created"));
        Ok(Link::new(socket.into()).expect("socket can be created"))
    }
}

/// Takes over a migration and keeps the link open after its end.
pub(crate) fn hold_on(address: &Address) -> JoinHandle<UnixStream> {
    let address = address.clone();
    thread::spawn(move || {
        let mut held = Held {
            address,
            last: None,
        };
        take_over(&mut held);
        held.last.expect("a link")
    })
}
