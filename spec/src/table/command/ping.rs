//! The values of PING, each of which marks a place in the stream.

use crate::model::{Constant, Literal};

/// Value of the first PING, behind OPEN_RETURN_PATH.
pub const PING_OPENED: u32 = 1;
/// Value of the PING in front of the package.
pub const PING_BEFORE_PACKAGE: u32 = 2;
/// Value of the PING behind the device states in the package.
pub const PING_IN_PACKAGE: u32 = 3;
/// Value of the PING behind the package.
pub const PING_AFTER_PACKAGE: u32 = 4;
/// Value of the PING whose PONG confirms that the package is loaded.
pub const PING_PACKAGE_LOADED: u32 = 0x42;

/// The values, in the order in which they are sent.
pub(super) const VALUES: &[Constant] = &[
    Constant {
        name: "PING_OPENED",
        value: Literal::U32(PING_OPENED),
        doc: "Behind OPEN_RETURN_PATH.",
        since: "",
    },
    Constant {
        name: "PING_BEFORE_PACKAGE",
        value: Literal::U32(PING_BEFORE_PACKAGE),
        doc: "In front of PACKAGED.",
        since: "",
    },
    Constant {
        name: "PING_IN_PACKAGE",
        value: Literal::U32(PING_IN_PACKAGE),
        doc: "In the package, behind the device states.",
        since: "",
    },
    Constant {
        name: "PING_AFTER_PACKAGE",
        value: Literal::U32(PING_AFTER_PACKAGE),
        doc: "Behind the package.",
        since: "",
    },
    Constant {
        name: "PING_PACKAGE_LOADED",
        value: Literal::U32(PING_PACKAGE_LOADED),
        doc: "In the package, in front of POSTCOPY_RUN: its PONG confirms that the destination has \
              loaded the device states.",
        since: "10.2",
    },
];
