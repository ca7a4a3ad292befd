//! Finds the process that opened a TCP connection.

use std::fs;

/// Returns the process, among `processes`, that has connected from one port of 127.0.0.1 to
/// another.
pub fn owner_of_connection(from: u16, to: u16, processes: &[u32]) -> Option<u32> {
    let table = fs::read_to_string("/proc/net/tcp").ok()?;
    let wanted = format!("socket:[{}]", inode_of(&table, from, to)?);
    processes.iter().copied().find(|process| {
        let files = fs::read_dir(format!("/proc/{process}/fd"));
        files.into_iter().flatten().flatten().any(|file| {
            fs::read_link(file.path()).is_ok_and(|link| link.to_string_lossy() == wanted)
        })
    })
}

/// Returns the socket inode of a connection. Both ports must match: the kernel reuses a local port
/// for connections to other ports, and lists closed connections for another minute (`TIME_WAIT`).
fn inode_of(table: &str, from: u16, to: u16) -> Option<&str> {
    let [local, remote] = [from, to].map(|port| format!("0100007F:{port:04X}"));
    table.lines().find_map(|line| {
        let fields: Vec<&str> = line.split_ascii_whitespace().collect();
        let is_wanted = fields.get(1..3)? == [&local, &remote];
        is_wanted.then(|| fields.get(9).copied())?
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn open_and_closed_connections_of_a_port_are_distinguished() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
 640: 0100007F:C84C 0100007F:97E3 06 00000000:00000000 03:00000BBC 00000000     0        0 0 3 00000000f6c64c76
3148: 0100007F:C84C 0100007F:A42D 01 00000000:00000000 00:00000000 00000000     0        0 2769533 2 000000007bac275a 20 0 0 10 -1
";
        assert_eq!(inode_of(table, 0xC84C, 0xA42D), Some("2769533"));
        assert_eq!(inode_of(table, 0xC84D, 0xA42D), None);
    }
}
