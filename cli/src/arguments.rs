//! Command line arguments, parsed by clap. Doc comments of fields become texts of `--help`.

use std::path::PathBuf;
use std::time::Duration;

use clap::builder::PossibleValuesParser;
use clap::{Args, Parser, Subcommand, ValueEnum, ValueHint};
use clap_complete::Shell;
use url::Url;

use crate::exit;

/// Address on which `make run` listens.
const DEFAULT_SERVER: &str = "http://127.0.0.1:8080";

/// Examples at the end of `wordmill --help`.
const EXAMPLES: &str = "\
Examples:
  wordmill count book.txt                    count a file, by every rule
  wordmill count --top 10 https://a.example/ also show the most frequent words of a page
  wordmill count letters/ --format csv       print one row for each file of a folder
  wordmill count letters/ --merge --top 50   merge all files into one histogram
  pdftotext paper.pdf - | wordmill count     count the output of another program
  wordmill count --no-wait *.txt > ids       submit now ...
  xargs wordmill wait < ids                  ... and wait for the results later
  wordmill list --status failed              list failed jobs";

/// Count words of files, web pages and standard input with a Wordmill server
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

/// Address of the server, API key and time limits.
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
    // Not a doc comment: clippy demands backticks in those, which clap would print.
    #[arg(
        long,
        global = true,
        value_name = "FILE",
        value_hint = ValueHint::FilePath,
        help = "File with the API key (default: the key in the variable WORDMILL_API_KEY)"
    )]
    pub(crate) key_file: Option<PathBuf>,
    /// Stop after TIME, for example 30s, 10m or 2h; submitted jobs continue
    #[arg(long, global = true, value_name = "TIME", value_parser = duration)]
    pub(crate) timeout: Option<Duration>,
    /// How long to retry a request after a transient error (408, 429, 5xx, lost connection)
    #[arg(long, global = true, value_name = "TIME", default_value = "60s", value_parser = duration)]
    pub(crate) retry_time: Duration,
}

/// Subcommands.
#[derive(Debug, Subcommand)]
pub(crate) enum Action {
    /// Count the words of files, folders, URLs or standard input
    Count(CountArguments),
    /// Show the status of jobs
    Status(SelectionArguments),
    /// Wait until jobs are finished, and show their final status
    Wait(SelectionArguments),
    /// Print the result of a job
    Result(ResultArguments),
    /// Print why two rules count differently, for a job counted with --explain
    Explain(ExplainArguments),
    /// Cancel jobs
    Cancel(SelectionArguments),
    /// Submit finished jobs again, as new jobs
    Retry(SelectionArguments),
    /// Delete finished jobs and their results
    Delete(DeleteArguments),
    /// List jobs, the most recently changed first
    List(ListArguments),
    /// Show waiting and running jobs, and the workers
    Queue(PrintArguments),
    /// List, show, replay or delete jobs that failed for good
    #[command(subcommand)]
    DeadLetters(DeadLettersAction),
    /// Print a completion script for a shell
    #[command(after_help = COMPLETIONS)]
    Completions {
        /// Shell that runs the script
        shell: Shell,
    },
}

const COMPLETIONS: &str = "\
Examples:
  wordmill completions bash > ~/.local/share/bash-completion/completions/wordmill
  wordmill completions zsh > ~/.zfunc/_wordmill
  wordmill completions fish > ~/.config/fish/completions/wordmill.fish";

/// Output format.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// Text for people; may change between versions
    Table,
    /// All fields of the API; jobs and dead letters as one object per line
    Json,
    /// For spreadsheets: one row for each source, job or word
    Csv,
}

/// Output options.
#[derive(Debug, Args)]
#[command(next_help_heading = "Output")]
pub(crate) struct PrintArguments {
    /// Output format
    #[arg(long, short = 'f', value_enum, default_value_t = Format::Table)]
    pub(crate) format: Format,
    /// Write output to FILE (created only on success)
    #[arg(long, short = 'o', value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) output: Option<PathBuf>,
}

/// Arguments of `count`.
#[derive(Debug, Args)]
#[command(after_help = COUNTING)]
pub(crate) struct CountArguments {
    /// Files, folders, URLs, or - for standard input (default: standard input, unless it is a
    /// terminal)
    #[arg(value_name = "SOURCE", value_hint = ValueHint::AnyPath)]
    pub(crate) sources: Vec<PathBuf>,
    /// Merge all sources into one histogram; several URLs without files become one batch
    #[arg(long)]
    pub(crate) merge: bool,
    /// Also show the N most frequent words; with --merge and JSON or CSV, print only these
    #[arg(long, value_name = "N")]
    pub(crate) top: Option<usize>,
    /// Also show why two rules count differently (default: unicode,whitespace)
    #[arg(
        long,
        conflicts_with = "merge",
        value_name = "RULE,RULE",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "unicode,whitespace",
    )]
    pub(crate) explain: Option<String>,
    /// Wait for the results (the default)
    #[arg(long, overrides_with = "no_wait")]
    pub(crate) wait: bool,
    /// Submit, print the job ids, and exit
    #[arg(long, conflicts_with_all = ["top", "explain"])]
    pub(crate) no_wait: bool,
    #[command(flatten)]
    pub(crate) options: OptionArguments,
    #[command(flatten)]
    pub(crate) print: PrintArguments,
}

const COUNTING: &str = "\
In folders, all text files are counted except hidden ones; symbolic links are skipped. A file that \
is named is always sent: the server rejects it if it does not support its format. The server also \
fetches the URLs, so it must be able to reach them.";

/// Options of counting, labels and lane.
#[derive(Debug, Args)]
#[command(next_help_heading = "Counting")]
pub(crate) struct OptionArguments {
    /// Definition of a word (see docs/counting.md)
    #[arg(
        long,
        value_parser = PossibleValuesParser::new(["unicode", "whitespace", "office", "gmx"]),
    )]
    pub(crate) rule: Option<String>,
    /// Letter case handling
    #[arg(long, value_parser = PossibleValuesParser::new(["lower", "fold", "keep"]))]
    pub(crate) case: Option<String>,
    /// Count the whole page or only the main article
    #[arg(long, value_parser = PossibleValuesParser::new(["page", "main"]))]
    pub(crate) scope: Option<String>,
    /// Language of the sources, for example ja or pt-BR
    #[arg(long, value_name = "TAG")]
    pub(crate) language: Option<String>,
    #[arg(
        long = "option",
        value_name = "NAME=VALUE",
        value_parser = pair,
        help = "Another option of docs/counting.md, for example min_len=3 or stop_words=the"
    )]
    pub(crate) others: Vec<(String, String)>,
    /// Attach a label to the jobs, to filter lists by it
    #[arg(long = "label", short = 'l', value_name = "NAME=VALUE", value_parser = pair)]
    pub(crate) labels: Vec<(String, String)>,
    /// Lane of the queue (default: bulk for more than 20 sources, otherwise interactive)
    #[arg(long, value_parser = PossibleValuesParser::new(["interactive", "bulk"]))]
    pub(crate) lane: Option<String>,
    /// Content type of files and standard input, for example text/html (default: derived from the
    /// file extension, otherwise detected by the server)
    #[arg(long = "type", value_name = "TYPE", value_parser = content_type)]
    pub(crate) content_type: Option<String>,
}

/// Arguments of the actions that take job ids.
#[derive(Debug, Args)]
pub(crate) struct SelectionArguments {
    /// Job ids
    #[arg(value_name = "ID", required = true)]
    pub(crate) ids: Vec<String>,
    #[command(flatten)]
    pub(crate) print: PrintArguments,
}

/// Arguments of `delete`.
#[derive(Debug, Args)]
pub(crate) struct DeleteArguments {
    /// Ids of finished jobs
    #[arg(value_name = "ID", required = true)]
    pub(crate) ids: Vec<String>,
}

/// Arguments of `result`.
#[derive(Debug, Args)]
pub(crate) struct ResultArguments {
    /// Id of a succeeded job
    #[arg(value_name = "ID")]
    pub(crate) id: String,
    /// Only the N most frequent words (a table shows 20 by default)
    #[arg(long, value_name = "N")]
    pub(crate) top: Option<usize>,
    /// Only words with at least N occurrences
    #[arg(long, value_name = "N")]
    pub(crate) min_count: Option<u64>,
    #[command(flatten)]
    pub(crate) print: PrintArguments,
}

/// Arguments of `explain`.
#[derive(Debug, Args)]
pub(crate) struct ExplainArguments {
    /// Id of a succeeded job
    #[arg(value_name = "ID")]
    pub(crate) id: String,
    /// The two rules to compare
    #[arg(long, value_name = "RULE,RULE", default_value = "unicode,whitespace")]
    pub(crate) rules: String,
    #[command(flatten)]
    pub(crate) print: PrintArguments,
}

/// Arguments of `list`.
#[derive(Debug, Args)]
pub(crate) struct ListArguments {
    /// Only jobs with this status
    #[arg(
        long,
        value_parser = PossibleValuesParser::new(["queued", "running", "succeeded", "failed", "cancelled"]),
    )]
    pub(crate) status: Option<String>,
    /// Only jobs with this label
    #[arg(long, short = 'l', value_name = "NAME=VALUE", value_parser = pair)]
    pub(crate) label: Option<(String, String)>,
    /// Maximum number of jobs
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

/// Subcommands of `dead-letters`.
#[derive(Debug, Subcommand)]
pub(crate) enum DeadLettersAction {
    /// List dead letters, the newest first
    List(DeadLettersListArguments),
    /// Show one dead letter and the reason of the failure
    Show(ShowArguments),
    /// Submit the jobs of dead letters again, each at most once
    Replay(ReplayArguments),
    /// Delete dead letters
    Delete(DeleteLettersArguments),
}

/// Arguments of `dead-letters list`.
#[derive(Debug, Args)]
pub(crate) struct DeadLettersListArguments {
    #[command(flatten)]
    pub(crate) filter: FilterArguments,
    /// Maximum number of dead letters
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

/// Filter for dead letters.
#[derive(Debug, Args)]
pub(crate) struct FilterArguments {
    /// Only dead letters with this failure code
    #[arg(long)]
    pub(crate) code: Option<String>,
    /// Only dead letters of this lane
    #[arg(long, value_parser = PossibleValuesParser::new(["interactive", "bulk"]))]
    pub(crate) lane: Option<String>,
}

/// Arguments of `dead-letters show`.
#[derive(Debug, Args)]
pub(crate) struct ShowArguments {
    /// Id of a dead letter
    #[arg(value_name = "ID")]
    pub(crate) id: String,
    #[command(flatten)]
    pub(crate) print: PrintArguments,
}

/// Arguments of `dead-letters replay`.
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
    /// Replay all dead letters
    #[arg(long, conflicts_with_all = ["code", "lane"])]
    pub(crate) all: bool,
    /// Dry run: only show what would be replayed
    #[arg(long)]
    pub(crate) dry_run: bool,
    #[command(flatten)]
    pub(crate) print: PrintArguments,
}

/// Arguments of `dead-letters delete`.
#[derive(Debug, Args)]
pub(crate) struct DeleteLettersArguments {
    /// Ids of dead letters
    #[arg(value_name = "ID", required = true)]
    pub(crate) ids: Vec<String>,
}

/// Parses the address of a server.
fn server_url(text: &str) -> Result<Url, String> {
    let url: Url = text.parse().map_err(|error| format!("{error}; expected http://host:port"))?;
    if !matches!(url.scheme(), "http" | "https") || !url.has_host() {
        return Err("the URL must begin with http:// or https://".to_owned());
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("the URL must not contain a user name or password; use --key-file".to_owned());
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err("the URL must not contain a query (?) or a fragment (#)".to_owned());
    }
    Ok(url)
}

/// Parses a duration as the service does in its settings: `250ms`, `30s`, `5m`, `12h`, `7d`. A
/// number without a unit is in seconds.
fn duration(text: &str) -> Result<Duration, String> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let unit_ms = match unit {
        "ms" => 1,
        "" | "s" => 1000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return Err("a time has the form 250ms, 30s, 5m, 12h or 7d".to_owned()),
    };
    let number: u64 = number.parse().map_err(|_| "not a valid number".to_owned())?;
    number.checked_mul(unit_ms).map(Duration::from_millis).ok_or_else(|| "too long".into())
}

/// Parses `name=value`.
fn pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("write NAME=VALUE".to_owned()),
    }
}

/// Validates a content type, which is written into a header line of a multipart form.
fn content_type(text: &str) -> Result<String, String> {
    let is_visible = text.chars().all(|c| c == ' ' || c.is_ascii_graphic());
    if is_visible && text.contains('/') && text.len() <= 255 {
        Ok(text.to_owned())
    } else {
        Err("a content type has the form text/plain".to_owned())
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
