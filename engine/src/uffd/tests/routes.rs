//! Which route is taken, and what is said when none works.

use rustix::io::Errno;

use crate::uffd::Features;
use crate::uffd::open::{Route, RouteError, Step, first_open};

/// Opens by the routes named, in which everything else fails.
fn works(routes: &[Route]) -> impl FnMut(Route) -> Result<Route, RouteError> {
    move |route| match routes.contains(&route) {
        true => Ok(route),
        false => Err(RouteError::new(route, Step::Create, Errno::PERM)),
    }
}

#[test]
fn takes_the_best_route_that_works() {
    use Route::{Device, Syscall, UserModeOnly};
    assert_eq!(first_open(works(&Route::ALL)), Ok((Device, Device)));
    assert_eq!(
        first_open(works(&[Syscall, UserModeOnly])),
        Ok((Syscall, Syscall))
    );
    assert_eq!(
        first_open(works(&[UserModeOnly])),
        Ok((UserModeOnly, UserModeOnly))
    );
    assert!(Device.warning().is_none() && Syscall.warning().is_none());
    assert!(UserModeOnly.warning().unwrap().contains("retpath doctor"));
}

#[test]
fn goes_on_to_the_system_call_when_the_device_may_not_be_opened() {
    // The `userfaultfd` crate gives up here.
    let (route, ()) = first_open(|route| match route {
        Route::Device => Err(RouteError::new(route, Step::Device, Errno::ACCESS)),
        _ => Ok(()),
    })
    .unwrap();
    assert_eq!(route, Route::Syscall);
}

#[test]
fn says_why_each_route_fails_and_where_to_look() {
    let error = first_open::<()>(|route| {
        Err(match route {
            Route::Device => RouteError::new(route, Step::Device, Errno::ACCESS),
            Route::Syscall => RouteError::new(route, Step::Create, Errno::PERM),
            Route::UserModeOnly => RouteError::new(route, Step::Create, Errno::INVAL),
        })
    })
    .unwrap_err();
    assert_eq!(error.tried.len(), 3);
    let text = error.to_string();
    let parts = [
        "/dev/userfaultfd: this user may not open it",
        "system call: it needs CAP_SYS_PTRACE or vm.unprivileged_userfaultfd=1",
        "user mode only: Linux older than 5.11",
        "`retpath doctor`",
    ];
    for part in parts {
        assert!(text.contains(part), "{part:?} is missing in {text:?}");
    }
}

#[test]
fn says_something_for_every_errno_at_every_step() {
    for route in Route::ALL {
        for step in [Step::Device, Step::Create, Step::Handshake] {
            for errno in 1..134 {
                let error = RouteError { route, step, errno };
                assert!(!error.to_string().is_empty(), "{error:?}");
            }
        }
    }
}

#[test]
fn asks_for_no_event_that_would_have_to_be_answered() {
    let events = [
        Features::EVENT_FORK,
        Features::EVENT_REMAP,
        Features::EVENT_REMOVE,
        Features::EVENT_UNMAP,
        Features::SIGBUS,
    ];
    for event in events {
        assert!(!Features::WANTED.contains(event));
    }
    assert!(Features::WANTED.contains(Features::THREAD_ID));
}
