//! The command `wordmill`.

use std::process::ExitCode;

fn main() -> ExitCode {
    wordmill::main()
}
