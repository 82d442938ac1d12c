//! QEMU postcopy page service.
