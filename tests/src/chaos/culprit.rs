//! Which process is at the other end of a connection.

use std::fs;

/// Returns the one of `processes` that has a TCP socket on this port of 127.0.0.1.
pub fn owner_of_port(port: u16, processes: &[u32]) -> Option<u32> {
    let local = format!("0100007F:{port:04X}");
    let table = fs::read_to_string("/proc/net/tcp").ok()?;
    let inode = table.lines().find_map(|line| {
        let fields: Vec<&str> = line.split_ascii_whitespace().collect();
        (fields.get(1) == Some(&local.as_str())).then(|| fields.get(9).copied())?
    })?;
    let wanted = format!("socket:[{inode}]");
    processes.iter().copied().find(|process| {
        let files = fs::read_dir(format!("/proc/{process}/fd"));
        files.into_iter().flatten().flatten().any(|file| {
            fs::read_link(file.path()).is_ok_and(|link| link.to_string_lossy() == wanted)
        })
    })
}
