//! What people type.

use std::path::PathBuf;
use std::time::Duration;

use clap::builder::PossibleValuesParser;
use clap::{Args, Parser, Subcommand, ValueEnum, ValueHint};
use clap_complete::Shell;
use url::Url;

use crate::exit;

/// Where `make run` listens.
const DEFAULT_SERVER: &str = "http://127.0.0.1:8080";

/// Examples for those who ask the command for help.
const EXAMPLES: &str = "\
Examples:
  wordmill count book.txt                    how many words, by every rule
  wordmill count --top 10 https://a.example/ the most frequent words of a page, too
  wordmill count letters/ --format csv       a line for each file of a folder
  wordmill count letters/ --merge --top 50   the words of all files together
  pdftotext paper.pdf - | wordmill count     whatever another program prints
  wordmill count --no-wait *.txt > ids       submit, and come back later:
  xargs wordmill wait < ids
  wordmill list --status failed              what went wrong";

/// Counts words with Wordmill, from a terminal or a script.
#[derive(Debug, Parser)]
#[command(
    name = "wordmill",
    version,
    after_help = EXAMPLES,
    after_long_help = format!("{EXAMPLES}\n\n{}", exit::HELP),
)]
#[command(subcommand_required = true, arg_required_else_help = true, max_term_width = 100)]
pub(crate) struct Arguments {
    #[command(flatten)]
    pub(crate) server: ServerArguments,
    #[command(subcommand)]
    pub(crate) action: Action,
}

/// Where the server is, and how long it may take.
#[derive(Debug, Args)]
#[command(next_help_heading = "Server")]
pub(crate) struct ServerArguments {
    /// Address of the gateway
    #[arg(
        long,
        global = true,
        env = "WORDMILL_URL",
        value_name = "URL",
        default_value = DEFAULT_SERVER,
        value_parser = server_url,
        value_hint = ValueHint::Url,
    )]
    pub(crate) server: Url,
    // Help is no Markdown: what would be code there is written as a text here.
    #[arg(
        long,
        global = true,
        value_name = "FILE",
        value_hint = ValueHint::FilePath,
        help = "File with the API key; without it the environment has it: WORDMILL_API_KEY"
    )]
    pub(crate) key_file: Option<PathBuf>,
    /// Longest time for everything, such as 30s, 10m or 2h; then the command ends, the jobs go on
    #[arg(long, global = true, value_name = "TIME", value_parser = duration)]
    pub(crate) timeout: Option<Duration>,
    /// For how long a request is repeated that fails in a way that may pass (429, 5xx, a lost connection)
    #[arg(long, global = true, value_name = "TIME", default_value = "60s", value_parser = duration)]
    pub(crate) retry_time: Duration,
}

/// What is to be done.
#[derive(Debug, Subcommand)]
pub(crate) enum Action {
    /// Count the words of files, folders, pages or standard input
    Count(CountArguments),
    /// Show how jobs are doing
    Status(SelectionArguments),
    /// Wait for jobs to end, and show how they ended
    Wait(SelectionArguments),
    /// Print what a job counted
    Result(ResultArguments),
    /// Print what two rules count differently, for a job counted with --explain
    Explain(ExplainArguments),
    /// Cancel jobs
    Cancel(SelectionArguments),
    /// Do ended jobs again, as new ones
    Retry(SelectionArguments),
    /// Delete ended jobs and their results
    Delete(DeleteArguments),
    /// List jobs, the newest change first
    List(ListArguments),
    /// Show what waits, what is in work, and which workers there are
    Queue(PrintArguments),
    /// Jobs that were given up: look at them, do them again, delete them
    #[command(subcommand)]
    DeadLetters(DeadLettersAction),
    /// Print a script that completes this command in a shell
    #[command(after_help = COMPLETIONS)]
    Completions {
        /// Which shell
        shell: Shell,
    },
}

const COMPLETIONS: &str = "\
Examples:
  wordmill completions bash > ~/.local/share/bash-completion/completions/wordmill
  wordmill completions zsh > ~/.zfunc/_wordmill
  wordmill completions fish > ~/.config/fish/completions/wordmill.fish";

/// In which form something is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// For people
    Table,
    /// For programs: everything that the service says; of jobs and dead letters, one a line
    Json,
    /// For spreadsheets: one line for each source, job or word
    Csv,
}

/// How something is printed.
#[derive(Debug, Args)]
#[command(next_help_heading = "Output")]
pub(crate) struct PrintArguments {
    /// In which form
    #[arg(long, short = 'f', value_enum, default_value_t = Format::Table)]
    pub(crate) format: Format,
    /// Write to a file, which appears when all is well
    #[arg(long, short = 'o', value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) output: Option<PathBuf>,
}

/// `count`.
#[derive(Debug, Args)]
#[command(after_help = COUNTING)]
pub(crate) struct CountArguments {
    /// Files, folders, URLs, or - for standard input; that is counted if nothing is named and something
    /// is piped in
    #[arg(value_name = "SOURCE", value_hint = ValueHint::AnyPath)]
    pub(crate) sources: Vec<PathBuf>,
    /// One histogram of all sources together; URLs alone become a batch, which the service adds up
    #[arg(long)]
    pub(crate) merge: bool,
    /// Show the N most frequent words, too; with --merge --format json or csv only these
    #[arg(long, value_name = "N")]
    pub(crate) top: Option<usize>,
    /// Show what two rules count differently, too
    #[arg(
        long,
        conflicts_with = "merge",
        value_name = "RULE,RULE",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "unicode,whitespace",
    )]
    pub(crate) explain: Option<String>,
    /// Wait until everything is counted; this is the default
    #[arg(long, overrides_with = "no_wait")]
    pub(crate) wait: bool,
    /// Submit, print the ids of the jobs, and end
    #[arg(long, conflicts_with_all = ["top", "explain"])]
    pub(crate) no_wait: bool,
    #[command(flatten)]
    pub(crate) options: OptionArguments,
    #[command(flatten)]
    pub(crate) print: PrintArguments,
}

const COUNTING: &str = "\
Below a folder every text is counted, except hidden files; links are not followed. A file that is named is sent whatever it is, and \
the service says what it thinks of it. Pages are fetched by the service, not from here.";

/// How jobs are to be counted.
#[derive(Debug, Args)]
#[command(next_help_heading = "Counting")]
pub(crate) struct OptionArguments {
    /// What a word is (docs/counting.md)
    #[arg(
        long,
        value_parser = PossibleValuesParser::new(["unicode", "whitespace", "office", "gmx"]),
    )]
    pub(crate) rule: Option<String>,
    /// What becomes of upper case
    #[arg(long, value_parser = PossibleValuesParser::new(["lower", "fold", "keep"]))]
    pub(crate) case: Option<String>,
    /// All of a page, or its article
    #[arg(long, value_parser = PossibleValuesParser::new(["page", "main"]))]
    pub(crate) scope: Option<String>,
    /// Language of the sources, such as ja or pt-BR
    #[arg(long, value_name = "TAG")]
    pub(crate) language: Option<String>,
    #[arg(
        long = "option",
        value_name = "NAME=VALUE",
        value_parser = pair,
        help = "Any other option of docs/counting.md, such as min_len=3 or stop_words=the"
    )]
    pub(crate) others: Vec<(String, String)>,
    /// A label for the jobs, to find them by
    #[arg(long = "label", short = 'l', value_name = "NAME=VALUE", value_parser = pair)]
    pub(crate) labels: Vec<(String, String)>,
    /// Which queue; bulk if there are more than 20 sources, else interactive
    #[arg(long, value_parser = PossibleValuesParser::new(["interactive", "bulk"]))]
    pub(crate) lane: Option<String>,
    /// Content type of files and of standard input, such as text/html; else the name says it, or the
    /// service finds out
    #[arg(long = "type", value_name = "TYPE", value_parser = content_type)]
    pub(crate) content_type: Option<String>,
}

/// Jobs by their ids.
#[derive(Debug, Args)]
pub(crate) struct SelectionArguments {
    /// Ids of jobs
    #[arg(value_name = "ID", required = true)]
    pub(crate) ids: Vec<String>,
    #[command(flatten)]
    pub(crate) print: PrintArguments,
}

/// `delete`.
#[derive(Debug, Args)]
pub(crate) struct DeleteArguments {
    /// Ids of jobs that have ended
    #[arg(value_name = "ID", required = true)]
    pub(crate) ids: Vec<String>,
}

/// `result`.
#[derive(Debug, Args)]
pub(crate) struct ResultArguments {
    /// Id of a job that has succeeded
    #[arg(value_name = "ID")]
    pub(crate) id: String,
    /// Only the N most frequent words; a table has 20 unless it is told otherwise
    #[arg(long, value_name = "N")]
    pub(crate) top: Option<usize>,
    /// Only words that occur so often
    #[arg(long, value_name = "N")]
    pub(crate) min_count: Option<u64>,
    #[command(flatten)]
    pub(crate) print: PrintArguments,
}

/// `explain`.
#[derive(Debug, Args)]
pub(crate) struct ExplainArguments {
    /// Id of a job that has succeeded
    #[arg(value_name = "ID")]
    pub(crate) id: String,
    /// Which two rules
    #[arg(long, value_name = "RULE,RULE", default_value = "unicode,whitespace")]
    pub(crate) rules: String,
    #[command(flatten)]
    pub(crate) print: PrintArguments,
}

/// `list`.
#[derive(Debug, Args)]
pub(crate) struct ListArguments {
    /// Only jobs that are so
    #[arg(
        long,
        value_parser = PossibleValuesParser::new(["queued", "running", "succeeded", "failed", "cancelled"]),
    )]
    pub(crate) status: Option<String>,
    /// Only jobs with this label
    #[arg(long, short = 'l', value_name = "NAME=VALUE", value_parser = pair)]
    pub(crate) label: Option<(String, String)>,
    /// Most jobs that are listed
    #[arg(
        long,
        value_name = "N",
        default_value_t = 20,
        value_parser = clap::value_parser!(u32).range(1..=10_000),
    )]
    pub(crate) limit: u32,
    #[command(flatten)]
    pub(crate) print: PrintArguments,
}

/// `dead-letters`.
#[derive(Debug, Subcommand)]
pub(crate) enum DeadLettersAction {
    /// List them, the newest first
    List(DeadLettersListArguments),
    /// Show one, with the reason
    Show(ShowArguments),
    /// Do them again, each as a new job; a repeat starts no other
    Replay(ReplayArguments),
    /// Delete them
    Delete(DeleteLettersArguments),
}

/// `dead-letters list`.
#[derive(Debug, Args)]
pub(crate) struct DeadLettersListArguments {
    #[command(flatten)]
    pub(crate) filter: FilterArguments,
    /// Most letters that are listed
    #[arg(
        long,
        value_name = "N",
        default_value_t = 20,
        value_parser = clap::value_parser!(u32).range(1..=10_000),
    )]
    pub(crate) limit: u32,
    #[command(flatten)]
    pub(crate) print: PrintArguments,
}

/// Which dead letters.
#[derive(Debug, Args)]
pub(crate) struct FilterArguments {
    /// Only those that failed with this code
    #[arg(long)]
    pub(crate) code: Option<String>,
    /// Only those of this queue
    #[arg(long, value_parser = PossibleValuesParser::new(["interactive", "bulk"]))]
    pub(crate) lane: Option<String>,
}

/// `dead-letters show`.
#[derive(Debug, Args)]
pub(crate) struct ShowArguments {
    /// Id of a dead letter
    #[arg(value_name = "ID")]
    pub(crate) id: String,
    #[command(flatten)]
    pub(crate) print: PrintArguments,
}

/// `dead-letters replay`.
#[derive(Debug, Args)]
#[command(
    group = clap::ArgGroup::new("which").required(true).multiple(true).args(["ids", "code", "lane", "all"]),
)]
pub(crate) struct ReplayArguments {
    /// Ids of dead letters
    #[arg(value_name = "ID", conflicts_with_all = ["code", "lane", "all"])]
    pub(crate) ids: Vec<String>,
    #[command(flatten)]
    pub(crate) filter: FilterArguments,
    /// All of them
    #[arg(long, conflicts_with_all = ["code", "lane"])]
    pub(crate) all: bool,
    /// Only say what would be done
    #[arg(long)]
    pub(crate) dry_run: bool,
    #[command(flatten)]
    pub(crate) print: PrintArguments,
}

/// `dead-letters delete`.
#[derive(Debug, Args)]
pub(crate) struct DeleteLettersArguments {
    /// Ids of dead letters
    #[arg(value_name = "ID", required = true)]
    pub(crate) ids: Vec<String>,
}

/// Reads the address of a server.
fn server_url(text: &str) -> Result<Url, String> {
    let url: Url = text.parse().map_err(|error| format!("{error}; write http://host:port"))?;
    if !matches!(url.scheme(), "http" | "https") || !url.has_host() {
        return Err("an address begins with http:// or https://".to_owned());
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("an address has no name and password; use --key-file".to_owned());
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err("an address ends before ? and #".to_owned());
    }
    Ok(url)
}

/// Reads a time as the service's settings have it: `250ms`, `30s`, `5m`, `12h`, `7d`; a bare number is
/// seconds.
fn duration(text: &str) -> Result<Duration, String> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let unit_ms = match unit {
        "ms" => 1,
        "" | "s" => 1000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return Err("a time is written 250ms, 30s, 5m, 12h or 7d".to_owned()),
    };
    let number: u64 = number.parse().map_err(|_| "a time begins with a number".to_owned())?;
    number.checked_mul(unit_ms).map(Duration::from_millis).ok_or_else(|| "it is too long".into())
}

/// Reads `name=value`.
fn pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("write NAME=VALUE".to_owned()),
    }
}

/// Reads a content type, which has to fit into a line of a form.
fn content_type(text: &str) -> Result<String, String> {
    let is_visible = text.chars().all(|c| c == ' ' || c.is_ascii_graphic());
    if is_visible && text.contains('/') && text.len() <= 255 {
        Ok(text.to_owned())
    } else {
        Err("a content type is written text/plain".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    fn parsed(line: &str) -> Result<Arguments, clap::Error> {
        Arguments::try_parse_from(line.split(' '))
    }

    #[test]
    fn the_definition_holds_together() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn times_are_written_as_in_settings() {
        for (text, ms) in [
            ("250ms", 250),
            ("30s", 30_000),
            ("90", 90_000),
            ("5m", 300_000),
            ("12h", 43_200_000),
            ("7d", 604_800_000),
            ("0s", 0),
        ] {
            assert_eq!(duration(text), Ok(Duration::from_millis(ms)), "{text}");
        }
        for text in ["", "s", "1.5s", "-1s", "1w", "1 s", "99999999999999999999s"] {
            assert!(duration(text).is_err(), "{text}");
        }
        assert!(duration(&format!("{}d", u64::MAX)).is_err());
    }

    #[test]
    fn addresses_of_servers_are_plain() {
        for text in ["http://127.0.0.1:8080", "https://a.example/words/"] {
            assert!(server_url(text).is_ok(), "{text}");
        }
        for text in ["127.0.0.1:8080", "ftp://a", "http://", "http://u:p@a", "http://a/?x", "a#b"] {
            assert!(server_url(text).is_err(), "{text}");
        }
    }

    #[test]
    fn contradicting_arguments_are_refused() {
        for line in [
            "wordmill",
            "wordmill count --rule words a",
            "wordmill count --label a a",
            "wordmill count --no-wait --top 3 a",
            "wordmill count --type text a",
            "wordmill count --merge --explain a",
            "wordmill status",
            "wordmill dead-letters replay",
            "wordmill dead-letters replay --all --code internal",
            "wordmill dead-letters replay a --all",
            "wordmill list --limit 0",
            "wordmill --timeout soon queue",
        ] {
            assert!(parsed(line).is_err(), "{line}");
        }
        for line in [
            "wordmill count a --server http://b --timeout 1m --explain --top 3",
            "wordmill count --explain=office,gmx a -l book=1 -l part=2 --option min_len=2",
            "wordmill count --no-wait --wait a",
            "wordmill dead-letters replay --code internal --lane bulk --dry-run",
            "wordmill dead-letters replay a b",
        ] {
            assert!(parsed(line).is_ok(), "{line}");
        }
    }

    #[test]
    fn the_last_of_wait_and_no_wait_counts() {
        for (line, waits) in [
            ("wordmill count --no-wait --wait a", true),
            ("wordmill count --wait a", true),
            ("wordmill count a", true),
            ("wordmill count --no-wait a", false),
        ] {
            let Action::Count(count) = parsed(line).unwrap().action else { panic!("{line}") };
            assert_eq!(!count.no_wait, waits, "{line}");
        }
    }
}
