//! Lets threads that answer reads go before those that copy, write and follow.
//!
//! ```text
//!  runtime of reads   asks for short turns, often  ┐
//!                                                  ├─ on the same processors
//!  everything else    a third of the weight        ┘
//! ```
//!
//! Where threads want more processors than there are, a read waits for whoever runs. A thread that has
//! more weight and asks for short turns is put before the others as soon as it has something to do.
//! They have a third of its weight: nothing starves, and a node that answers all it can still copies.
//!
//! On Linux only, and as far as the kernel goes along (turns of one's own length: from 6.12 on). No
//! privilege is needed; where it cannot be had, all threads are alike.

#[cfg(target_os = "linux")]
use std::io::Error;

/// Weight is a third of the usual one.
#[cfg(target_os = "linux")]
const BEHIND_NICE: i32 = 5;

/// The shortest turn that the kernel gives.
#[cfg(target_os = "linux")]
const TURN_NS: u64 = 100_000;

/// Has the calling thread take short turns, as soon as it has something to do.
pub fn take_short_turns() {
    #[cfg(target_os = "linux")]
    {
        let attributes = libc::sched_attr {
            size: size_of::<libc::sched_attr>() as u32,
            sched_policy: libc::SCHED_OTHER as u32,
            sched_flags: 0,
            sched_nice: 0,
            sched_priority: 0,
            sched_runtime: TURN_NS,
            sched_deadline: 0,
            sched_period: 0,
        };
        // SAFETY: the attributes outlive the call and are as large as they say; 0 is the calling thread.
        let done = unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &raw const attributes, 0) };
        if done != 0 {
            tracing::debug!(error = %Error::last_os_error(), "reads take turns as others do");
        }
    }
}

/// Puts the calling thread, and those that it begins from now on, behind those that answer reads.
pub fn step_behind() {
    #[cfg(target_os = "linux")]
    {
        // SAFETY: takes numbers alone; 0 is the calling thread.
        let done = unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, BEHIND_NICE) };
        if done != 0 {
            tracing::debug!(error = %Error::last_os_error(), "is not put behind reads");
        }
    }
}
