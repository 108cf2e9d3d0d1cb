//! A node that somebody else's process started, and that must not outlive it.

/// Asks the kernel to kill this process with its parent, so that not even a stopped one stays
/// behind. Standard input, which ends with the parent too, covers other systems than Linux and a
/// parent that is gone already.
pub fn die_with_it() {
    #[cfg(target_os = "linux")]
    {
        use rustix::process::{Signal, set_parent_process_death_signal};
        // Refused by no kernel that is in use; standard input is there as well.
        let _ = set_parent_process_death_signal(Some(Signal::KILL));
    }
}
