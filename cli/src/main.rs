//! The command `wordmill`.

use std::process::ExitCode;

fn main() -> ExitCode {
    wordmill_command::main()
}
