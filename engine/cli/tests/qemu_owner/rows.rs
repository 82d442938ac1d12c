//! The rows, each of them a test.

use crate::table::{Cure, Failure, Outcome, Phase, Place, Row, State};
use crate::{receive, serve};

/// Makes a list of rows, and a test of each.
macro_rules! rows {
    ($($name:ident: $phase:ident, $failure:ident => $outcomes:expr;)*) => {
        pub(crate) const ROWS: &[Row] = &[$(Row {
            phase: Phase::$phase,
            failure: Failure::$failure,
            outcomes: $outcomes,
        }),*];

        $(
            #[test]
            #[ignore = "needs qemu-system-x86_64 and strace; run by .ci/run"]
            fn $name() {
                run(Phase::$phase, Failure::$failure);
            }
        )*
    };
}

fn run(phase: Phase, failure: Failure) {
    let mut rows = ROWS.iter();
    let row = rows.find(|row| row.phase == phase && row.failure == failure);
    let row = row.expect("each test has its row");
    match phase.is_receive() {
        true => receive::run(row),
        false => serve::run(row),
    }
}

const fn since(major: u32, minor: u32, place: Place, state: State, cure: Cure) -> Outcome {
    let since = (major, minor);
    Outcome {
        since,
        place,
        state,
        cure,
    }
}

const fn always(place: Place, state: State, cure: Cure) -> Outcome {
    since(0, 0, place, state, cure)
}

use Cure::{
    Complete, Cont, Continue, ContinueBack, GiveBack, Nothing, PutBack, Recover, Restore, Resume,
    Runs, Serve, ServeKept, TakeOver,
};
use Place::{
    Damaged, Folder, Image, ImageOnly, Lost, Qemu, QemuAndImage, Source, SourceAndFolder,
    SourceAndImage, SourceAndReceive, Stuck,
};
use State::{Ended, Is};

const GOES_ON: &[Outcome] = &[always(Source, Is("failed", "running"), Runs)];
/// SHUT(1) came after the switch.
const GIVEN_BACK: &[Outcome] = &[
    always(Source, Is("failed", "postmigrate"), Cont),
    since(9, 0, Source, Is("failed", "running"), Runs),
];
/// The source has been told that the migration is over, and has the guest until it is ended.
const TOLD_TOO_EARLY: &[Outcome] = &[always(Source, Is("completed", "postmigrate"), Cont)];
const STUCK: State = Is("postcopy-paused", "finish-migrate");
/// The link broke before the device state was here.
const CUT_AT_SWITCH: &[Outcome] = &[
    always(Stuck, STUCK, GiveBack),
    since(10, 2, Source, Is("failed", "running"), Runs),
];
const KILLED_AT_SWITCH: &[Outcome] = &[
    always(Stuck, STUCK, ContinueBack),
    since(10, 2, Source, Is("failed", "running"), Runs),
];
const DEAD: &[Outcome] = &[always(Lost, Ended, Nothing)];
const IN_IMAGE: &[Outcome] = &[always(Image, Ended, Serve)];
const NEVER_LEFT: &[Outcome] = &[always(Image, Is("", "inmigrate"), Serve)];
const AS_BEFORE: &[Outcome] = &[always(ImageOnly, Ended, Serve)];
const PAUSED: State = Is("postcopy-paused", "running");
const TAKEN_OVER: &[Outcome] = &[always(QemuAndImage, PAUSED, TakeOver)];
const ARRIVED: &[Outcome] = &[always(Qemu, Is("completed", "running"), Runs)];

const HALF_IN_FOLDER: &[Outcome] = &[always(
    SourceAndFolder,
    Is("postcopy-paused", "finish-migrate"),
    Continue,
)];
/// The signal came too late to matter.
const FINISHED: &[Outcome] = &[always(Image, Is("completed", "postmigrate"), Serve)];
const KEPT: &[Outcome] = &[always(Image, Is("completed", "postmigrate"), ServeKept)];

rows! {
    receive_precopy_link_cut: Precopy, LinkCut => GOES_ON;
    receive_precopy_terminated: Precopy, Terminated => GOES_ON;
    receive_precopy_killed: Precopy, Killed => GOES_ON;
    receive_precopy_source_killed: Precopy, SourceKilled => DEAD;

    receive_precopy_end_link_cut: PrecopyEnd, LinkCut => &[
        always(SourceAndImage, Is("failed", "running"), Runs),
    ];
    receive_precopy_end_terminated: PrecopyEnd, Terminated => FINISHED;
    receive_precopy_end_killed: PrecopyEnd, Killed => TOLD_TOO_EARLY;
    receive_precopy_end_no_room_for_memory: PrecopyEnd, NoRoomForMemory => GOES_ON;
    receive_precopy_end_no_room_for_name: PrecopyEnd, NoRoomForName => TOLD_TOO_EARLY;
    receive_precopy_end_name_taken: PrecopyEnd, NameTaken => TOLD_TOO_EARLY;
    receive_precopy_end_source_killed: PrecopyEnd, SourceKilled => IN_IMAGE;

    receive_switch_link_cut: Switch, LinkCut => CUT_AT_SWITCH;
    receive_switch_terminated: Switch, Terminated => GIVEN_BACK;
    receive_switch_killed: Switch, Killed => KILLED_AT_SWITCH;
    receive_switch_no_room_for_devices: Switch, NoRoomForDevices => GIVEN_BACK;
    receive_switch_source_killed: Switch, SourceKilled => DEAD;

    receive_postcopy_link_cut: Postcopy, LinkCut => &[
        always(SourceAndReceive, Is("postcopy-paused", "finish-migrate"), Resume),
    ];
    receive_postcopy_link_gone: Postcopy, LinkGone => HALF_IN_FOLDER;
    receive_postcopy_terminated: Postcopy, Terminated => GIVEN_BACK;
    receive_postcopy_killed: Postcopy, Killed => HALF_IN_FOLDER;
    receive_postcopy_source_killed: Postcopy, SourceKilled => DEAD;

    receive_postcopy_end_link_cut: PostcopyEnd, LinkCut => &[
        always(Image, Is("postcopy-active", "finish-migrate"), Serve),
        since(9, 0, SourceAndImage, Is("failed", "running"), Runs),
    ];
    receive_postcopy_end_terminated: PostcopyEnd, Terminated => FINISHED;
    receive_postcopy_end_killed: PostcopyEnd, Killed => &[
        always(Folder, Is("postcopy-active", "finish-migrate"), Complete),
        since(9, 0, Source, Is("failed", "running"), Runs),
    ];
    receive_postcopy_end_no_room_for_memory: PostcopyEnd, NoRoomForMemory => GIVEN_BACK;
    receive_postcopy_end_no_room_for_name: PostcopyEnd, NoRoomForName => KEPT;
    receive_postcopy_end_name_taken: PostcopyEnd, NameTaken => KEPT;
    receive_postcopy_end_source_killed: PostcopyEnd, SourceKilled => IN_IMAGE;

    receive_received_source_killed: Received, SourceKilled => IN_IMAGE;

    serve_connecting_terminated: Connecting, Terminated => NEVER_LEFT;
    serve_connecting_killed: Connecting, Killed => NEVER_LEFT;

    serve_connecting_image_cut: Connecting, ImageCut => &[
        always(Damaged, Is("", "inmigrate"), Restore),
    ];

    serve_sending_link_cut: Sending, LinkCut => IN_IMAGE;
    serve_sending_terminated: Sending, Terminated => IN_IMAGE;
    serve_sending_killed: Sending, Killed => IN_IMAGE;
    serve_sending_destination_killed: Sending, DestinationKilled => IN_IMAGE;
    serve_sending_refused: Sending, Refused => IN_IMAGE;

    serve_serving_link_cut: Serving, LinkCut => &[always(QemuAndImage, PAUSED, Recover)];
    serve_serving_link_gone: Serving, LinkGone => TAKEN_OVER;
    serve_serving_terminated: Serving, Terminated => TAKEN_OVER;
    serve_serving_killed: Serving, Killed => TAKEN_OVER;
    serve_serving_image_cut: Serving, ImageCut => &[always(QemuAndImage, PAUSED, PutBack)];
    serve_serving_image_changed: Serving, ImageChanged => &[
        always(QemuAndImage, PAUSED, PutBack),
    ];
    serve_serving_destination_killed: Serving, DestinationKilled => AS_BEFORE;

    serve_unconfirmed_link_cut: Unconfirmed, LinkCut => ARRIVED;
    serve_unconfirmed_terminated: Unconfirmed, Terminated => ARRIVED;
    serve_unconfirmed_killed: Unconfirmed, Killed => ARRIVED;
    serve_unconfirmed_image_cut: Unconfirmed, ImageCut => ARRIVED;
    serve_unconfirmed_destination_killed: Unconfirmed, DestinationKilled => AS_BEFORE;

    serve_served_image_cut: Served, ImageCut => ARRIVED;
    serve_served_destination_killed: Served, DestinationKilled => AS_BEFORE;
}
