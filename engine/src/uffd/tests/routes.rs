//! The order of the routes, and the error when none works.

use std::io;

use linux_raw_sys::general;
use rustix::io::Errno;

use crate::uffd::Features;
use crate::uffd::open::{Route, RouteError, Step, first_open};

/// Opens by the given routes only.
fn works(routes: &[Route]) -> impl FnMut(Route) -> Result<Route, RouteError> {
    move |route| match routes.contains(&route) {
        true => Ok(route),
        false => Err(RouteError::new(route, Step::Create, Errno::PERM)),
    }
}

#[test]
fn uses_the_first_route_that_works() {
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
}

#[test]
fn falls_back_to_the_system_call_when_the_device_cannot_be_opened() {
    // The `userfaultfd` crate gives up here.
    let (route, ()) = first_open(|route| match route {
        Route::Device => Err(RouteError::new(route, Step::Device, Errno::ACCESS)),
        _ => Ok(()),
    })
    .unwrap();
    assert_eq!(route, Route::Syscall);
}

#[test]
fn reports_why_each_route_failed() {
    let error = first_open::<()>(|route| {
        Err(match route {
            Route::Device => RouteError::new(route, Step::Device, Errno::ACCESS),
            Route::Syscall => RouteError::new(route, Step::Create, Errno::PERM),
            Route::UserModeOnly => RouteError::new(route, Step::Create, Errno::INVAL),
        })
    })
    .unwrap_err();
    assert_eq!(error.tried.len(), 3);
    assert_eq!(
        error.to_string(),
        "userfaultfd cannot be opened: /dev/userfaultfd: this user may not open it; \
         system call: it needs CAP_SYS_PTRACE or vm.unprivileged_userfaultfd=1, or a sandbox \
         forbids it; system call, user mode only: Linux older than 5.11 does not know it"
    );
}

#[test]
fn explains_known_errnos_and_prints_the_others_as_the_system_does() {
    use Route::{Device, Syscall, UserModeOnly};
    let explained = [
        (Device, Step::Device, Errno::NOENT),
        (Device, Step::Device, Errno::ACCESS),
        (Device, Step::Device, Errno::PERM),
        (Device, Step::Create, Errno::NOSYS),
        (Syscall, Step::Create, Errno::NOSYS),
        (UserModeOnly, Step::Create, Errno::NOSYS),
        (Syscall, Step::Create, Errno::PERM),
        (UserModeOnly, Step::Create, Errno::PERM),
        (UserModeOnly, Step::Create, Errno::INVAL),
        (Device, Step::Handshake, Errno::INVAL),
        (Syscall, Step::Handshake, Errno::INVAL),
        (UserModeOnly, Step::Handshake, Errno::INVAL),
    ];
    for route in Route::ALL {
        for step in [Step::Device, Step::Create, Step::Handshake] {
            for errno in 1..134 {
                let error = RouteError { route, step, errno };
                let system = io::Error::from_raw_os_error(errno).to_string();
                let known = explained.contains(&(route, step, Errno::from_raw_os_error(errno)));
                assert_eq!(error.to_string() != system, known, "{error:?}: {error}");
            }
        }
    }
}

#[test]
fn requests_no_event_that_needs_an_answer() {
    let events = [
        general::UFFD_FEATURE_EVENT_FORK,
        general::UFFD_FEATURE_EVENT_REMAP,
        general::UFFD_FEATURE_EVENT_REMOVE,
        general::UFFD_FEATURE_EVENT_UNMAP,
        general::UFFD_FEATURE_SIGBUS,
    ];
    for event in events {
        assert!(!Features::WANTED.contains(Features(event.into())));
    }
    assert!(Features::WANTED.contains(Features::THREAD_ID));
}
