//! Command line arguments, parsed by clap. Doc comments of fields become texts of `--help`.

mod values;

use std::path::PathBuf;
use std::time::Duration;

use clap::builder::PossibleValuesParser;
use clap::{Args, Parser, Subcommand, ValueEnum, ValueHint};
use clap_complete::Shell;
use url::Url;

use self::values::{parse_content_type, parse_duration, parse_pair, parse_server_url};
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
        value_parser = parse_server_url,
        value_hint = ValueHint::Url,
    )]
    pub(crate) server: Url,
    // Not a doc comment: clippy demands backticks in those, which clap would print.
    #[arg(
        long,
        global = true,
        value_name = "FILE",
        value_hint = ValueHint::FilePath,
        help = "File with the API key (default: the file that the variable WORDMILL_API_KEY_FILE \
                names, or the key in WORDMILL_API_KEY)"
    )]
    pub(crate) key_file: Option<PathBuf>,
    /// Stop after TIME, for example 30s, 10m or 2h; submitted jobs continue
    #[arg(long, global = true, value_name = "TIME", value_parser = parse_duration)]
    pub(crate) timeout: Option<Duration>,
    /// How long to retry a request after a transient error (408, 429, 5xx, lost connection)
    #[arg(
        long,
        global = true,
        value_name = "TIME",
        default_value = "60s",
        value_parser = parse_duration,
    )]
    pub(crate) retry_time: Duration,
}

/// Subcommands.
#[derive(Debug, Subcommand)]
pub(crate) enum Action {
    /// Count the words of files, folders, URLs or standard input
    Count(CountArguments),
    /// Show the status of jobs
    Status(SelectionArguments),
    /// Wait until jobs are final, and show their status
    Wait(SelectionArguments),
    /// Print the result of a job
    Result(ResultArguments),
    /// Explain why two rules count differently, for a job counted with --explain
    Explain(ExplainArguments),
    /// Cancel jobs
    Cancel(SelectionArguments),
    /// Submit final jobs again, as new jobs
    Retry(SelectionArguments),
    /// Delete final jobs and their results
    Delete(DeleteArguments),
    /// List jobs, the most recently changed first
    List(ListArguments),
    /// Show queued and running jobs, and the workers
    Queue(PrintArguments),
    /// List, show, replay or delete jobs that used up all attempts
    #[command(subcommand)]
    DeadLetters(DeadLettersAction),
    /// Print a completion script for a shell
    #[command(after_help = COMPLETIONS_HELP)]
    Completions {
        /// Shell that runs the script
        shell: Shell,
    },
}

const COMPLETIONS_HELP: &str = "\
Examples:
  wordmill completions bash > ~/.local/share/bash-completion/completions/wordmill
  wordmill completions zsh > ~/.zfunc/_wordmill
  wordmill completions fish > ~/.config/fish/completions/wordmill.fish";

/// Output format.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// Human-readable text; the layout may change between versions
    Table,
    /// All fields of the API; jobs and dead letters as one object per line
    Json,
    /// Spreadsheet rows, one for each source, job or word
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
#[command(after_help = COUNT_HELP)]
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
    /// Also explain why two rules count differently (default: unicode,whitespace)
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

const COUNT_HELP: &str = "\
In folders, all text files are counted except hidden ones; symbolic links are skipped. Files given \
by name are always sent; the server refuses unsupported formats. The server fetches the URLs, so \
it must be able to reach them.";

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
    /// Letter case of the counted words
    #[arg(long, value_parser = PossibleValuesParser::new(["lower", "fold", "keep"]))]
    pub(crate) case: Option<String>,
    /// Count the whole page or only its main content
    #[arg(long, value_parser = PossibleValuesParser::new(["page", "main"]))]
    pub(crate) scope: Option<String>,
    /// Language of the sources, for example ja (used by the rule gmx)
    #[arg(long, value_name = "TAG")]
    pub(crate) language: Option<String>,
    #[arg(
        long = "option",
        value_name = "NAME=VALUE",
        value_parser = parse_pair,
        help = "Any other option in docs/counting.md, for example min_len=3 or stop_words=the"
    )]
    pub(crate) others: Vec<(String, String)>,
    /// Label for the jobs, used to filter lists
    #[arg(long = "label", short = 'l', value_name = "NAME=VALUE", value_parser = parse_pair)]
    pub(crate) labels: Vec<(String, String)>,
    /// Lane of the queue (default: bulk for more than 20 sources, otherwise interactive)
    #[arg(long, value_parser = PossibleValuesParser::new(["interactive", "bulk"]))]
    pub(crate) lane: Option<String>,
    /// Content type of files and standard input, for example text/html (default: derived from the
    /// file extension, otherwise detected by the server)
    #[arg(long = "type", value_name = "TYPE", value_parser = parse_content_type)]
    pub(crate) content_type: Option<String>,
}

/// Arguments of actions on jobs: their ids, and the output options.
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
    /// Ids of final jobs
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
    #[arg(long, short = 'l', value_name = "NAME=VALUE", value_parser = parse_pair)]
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
    /// Show one dead letter and the reason for the failure
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

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    fn parse(line: &str) -> Result<Arguments, clap::Error> {
        Arguments::try_parse_from(line.split(' '))
    }

    #[test]
    fn the_clap_definition_is_valid() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn conflicting_arguments_are_refused() {
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
            assert!(parse(line).is_err(), "{line}");
        }
        for line in [
            "wordmill count a --server http://b --timeout 1m --explain --top 3",
            "wordmill count --explain=office,gmx a -l book=1 -l part=2 --option min_len=2",
            "wordmill count --no-wait --wait a",
            "wordmill dead-letters replay --code internal --lane bulk --dry-run",
            "wordmill dead-letters replay a b",
        ] {
            assert!(parse(line).is_ok(), "{line}");
        }
    }

    #[test]
    fn the_last_of_wait_and_no_wait_wins() {
        for (line, waits) in [
            ("wordmill count --no-wait --wait a", true),
            ("wordmill count --wait a", true),
            ("wordmill count a", true),
            ("wordmill count --no-wait a", false),
        ] {
            let Action::Count(count) = parse(line).unwrap().action else { panic!("{line}") };
            assert_eq!(!count.no_wait, waits, "{line}");
        }
    }
}
