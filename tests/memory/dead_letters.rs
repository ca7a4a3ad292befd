//! Memory of a gateway that lists large dead letters.

use wordmill_tests::admin::{Admin, job_message};
use wordmill_tests::dead_letters::{ids, list};

use crate::{assert_below, start_stack};

#[test]
fn pages_of_large_dead_letters_are_short_and_linked() {
    const LETTERS: usize = 100;
    /// Measured: 64 to 82 MiB. With all dead letters on one page, it would be 148 MiB.
    const GROWTH_BYTES_MAX: u64 = 120 << 20;
    let stack = start_stack(1, 0, &[]);
    let client = stack.client();
    let admin = Admin::connect(&stack.nats);
    let text = "word ".repeat(200_000);
    let expected: Vec<String> =
        (0..LETTERS).map(|n| format!("0198f0c2-0000-7000-8000-{n:012}")).collect();
    for id in &expected {
        let message = job_message("bulk", id, &text);
        admin.publish(&format!("dead.bulk.public.{id}"), &message);
    }
    let gateway = &stack.gateways[0].process;
    let before = gateway.peak_memory_bytes();
    let mut listed_ids = Vec::new();
    let mut cursor = String::new();
    loop {
        let page = list(client, &format!("?limit=100{cursor}"));
        listed_ids.extend(ids(&page));
        match page["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => break,
        }
    }
    listed_ids.reverse();
    assert_eq!(listed_ids, expected);
    let grown = gateway.peak_memory_bytes() - before;
    assert_below(GROWTH_BYTES_MAX, grown, "pages of large dead letters");
}
