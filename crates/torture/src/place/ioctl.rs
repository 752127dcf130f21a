//! The one system call that is in no library.

use std::fs::File;

use rustix::ioctl::{Setter, ioctl, opcode};

/// `EXT4_IOC_SHUTDOWN` of the kernel's `ext4.h`: `_IOR('X', 125, __u32)`, though it is read by the kernel.
const SHUTDOWN: rustix::ioctl::Opcode = opcode::read::<u32>(b'X', 125);
/// `EXT4_GOING_FLAGS_NOLOGFLUSH`: without writing the journal out.
const WITHOUT_FLUSHING: u32 = 2;

/// Shuts the file system down that a folder is on, as a power cut does.
#[allow(unsafe_code)]
pub fn shut_down(folder: &File) -> rustix::io::Result<()> {
    // Sound: the kernel reads one `u32` behind the pointer, which `Setter` keeps alive during the call.
    unsafe { ioctl(folder, Setter::<SHUTDOWN, u32>::new(WITHOUT_FLUSHING)) }
}
