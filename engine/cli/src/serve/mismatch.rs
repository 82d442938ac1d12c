//! Messages about a QEMU that is configured differently: the likely cause, how to check it in that
//! QEMU's monitor, and what to set.

use retpath_engine::source::{Awaited, Suspicion};

/// How to check the capabilities of a QEMU.
const CHECK: &str = "`info migrate_capabilities` in that QEMU's monitor shows it";

/// The message about a silent QEMU.
pub(super) fn silence(suspicion: Suspicion) -> String {
    let seconds = suspicion.seconds;
    let multifd = "start it anew with `migrate_set_capability multifd off` before \
                   `migrate_incoming`";
    let preempt = "start it anew with `migrate_set_capability postcopy-preempt off` before \
                   `migrate_incoming`, or pass --preempt here";
    match (suspicion.awaited, suspicion.preempt) {
        (Awaited::Answer, true) => format!(
            "no answer for {seconds} s, with a second connection as for postcopy-preempt, too; \
             most likely the capability multifd is on there, or that QEMU is stopped; {CHECK}, \
             perhaps only once this command has been ended; if so, {multifd}"
        ),
        (Awaited::Answer, false) => format!(
            "no answer for {seconds} s; most likely that QEMU waits for more connections because \
             its capability multifd is on, or it is stopped; {CHECK}; if so, {multifd}"
        ),
        (Awaited::Listening, false) => format!(
            "the guest has been sent, but that QEMU has not begun to load it for {seconds} s; \
             most likely its capability postcopy-preempt is on; {CHECK}; if so, {preempt}"
        ),
        (Awaited::Listening, true) => format!(
            "the guest has been sent, but that QEMU has not begun to load it for {seconds} s, \
             although it has the connection that postcopy-preempt needs; most likely it is \
             stopped; `info status` and `info migrate` in its monitor show it"
        ),
        (Awaited::End, _) => format!(
            "everything has been sent, but that QEMU has not confirmed it for {seconds} s; most \
             likely it is stopped; `info status` and `info migrate` in its monitor show it"
        ),
        (Awaited::Bitmaps, false) => format!(
            "that QEMU has not sent its received bitmaps for {seconds} s; most likely it waits for a \
             second connection because its capability postcopy-preempt is on; {CHECK}; if so, end \
             this command and run it again with --resume and --preempt"
        ),
        (Awaited::Bitmaps, true) => format!(
            "that QEMU has not sent its received bitmaps for {seconds} s; most likely it is stopped, \
             or has not been told `migrate_recover`; `info migrate` in its monitor shows it"
        ),
    }
}

/// The message about a QEMU that closed the preempt channel.
pub(super) fn no_preempt() -> String {
    format!(
        "that QEMU closed the preempt channel before it was used; most likely its capability \
         postcopy-preempt is off; requested pages travel on the main channel; {CHECK}"
    )
}
