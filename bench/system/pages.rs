//! Generates pages to count, the same in every run, and serves them.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::Result;
use bytes::Bytes;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// The number of hosts that one worker needs to use all its slots: it fetches at most four pages of
/// a host concurrently.
pub const HOSTS: u8 = 4;
/// Maximum size of the head of a request.
const HEAD_MAX: usize = 8 << 10;

const STEMS: &str = "\
    mill word count page river stone wheel grain flour bread field water winter summer morning \
    evening village market road bridge garden window letter paper story voice silence morning \
    music colour shadow light mountain valley forest harbour sailor ship storm cloud thunder \
    rain snow frost fire ember ash kitchen table chair lamp door key lock wall roof cellar attic \
    stair hall room bed pillow blanket dream night star moon sun planet orbit engine lever \
    spring gear belt shaft hammer nail board saw plane carpenter baker miller farmer teacher \
    pupil lesson question answer number figure measure weight balance scale length width height \
    depth corner circle square line point edge surface body form pattern order change motion \
    rest force work effort result reason cause effect doubt proof claim notice report record \
    archive library shelf book chapter sentence phrase syllable sound tone rhythm dance step \
    path journey ticket station train carriage platform signal clock minute hour week month \
    season year century past future present memory promise secret friend neighbour stranger \
    guest visitor answerer listener reader writer";
const ENDINGS: [&str; 10] = ["", "s", "ed", "ing", "er", "less", "ful", "ly", "ish", "like"];
const LINKS: [&str; 14] =
    ["the", "of", "and", "a", "to", "in", "is", "that", "it", "was", "for", "on", "with", "as"];

/// Pseudo-random numbers (xorshift), the same in every run.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as usize % bound
    }
}

/// Returns a text of at least `bytes_min` bytes. As in natural texts, few words are frequent and
/// many are rare.
pub fn text(bytes_min: usize) -> String {
    let mut random = Random(0x5eed);
    let mut text = String::with_capacity(bytes_min + 16);
    while text.len() < bytes_min {
        push_sentence(&mut text, &mut random);
    }
    text
}

fn push_sentence(text: &mut String, random: &mut Random) {
    let stems: Vec<&str> = STEMS.split_whitespace().collect();
    for _ in 0..8 + random.below(12) {
        if random.below(5) < 2 {
            text.push_str(LINKS[random.below(LINKS.len())]);
        } else {
            let range = 1 + random.below(stems.len());
            text.push_str(stems[random.below(range)]);
            let range = 1 + random.below(ENDINGS.len());
            text.push_str(ENDINGS[random.below(range)]);
        }
        text.push(' ');
    }
    text.truncate(text.len() - 1);
    text.push_str(". ");
}

/// Returns a page of at least `bytes_min` bytes, with a typical amount of markup.
pub fn page(bytes_min: usize) -> String {
    let mut random = Random(0xfeed);
    let mut page = String::from(
        "<!DOCTYPE html><html lang=\"en\"><head><meta charset=\"utf-8\">\
         <title>A page of words</title>\n\
         <link rel=\"stylesheet\" href=\"/style.css\">\
         <style>body { margin: 2em auto; max-width: 40em }</style>\n\
         <script>window.words = [\"these\", \"do\", \"not\", \"count\"];</script>\
         </head><body>\n<nav><ul>\n",
    );
    for number in 1..=20 {
        let _ =
            writeln!(page, "<li class=\"entry\"><a href=\"/part/{number}\">Part {number}</a></li>");
    }
    page.push_str("</ul></nav>\n<main>\n");
    let mut number = 0;
    while page.len() < bytes_min {
        number += 1;
        let _ = writeln!(
            page,
            "<section id=\"part-{number}\" class=\"part\"><h2>Part {number} &amp; more</h2>"
        );
        for _ in 0..3 + random.below(4) {
            page.push_str("<p class=\"text\">");
            for _ in 0..2 + random.below(4) {
                let (open, close) = match random.below(4) {
                    0 => {
                        ("<a href=\"/elsewhere?from=here&amp;to=there\" title=\"further\">", "</a>")
                    }
                    1 => ("<em>", "</em>"),
                    _ => ("<span>", "</span>"),
                };
                page.push_str(open);
                push_sentence(&mut page, &mut random);
                page.push_str(close);
                page.push_str("&nbsp;");
            }
            page.push_str("</p>\n");
        }
        page.push_str("</section>\n");
    }
    page.push_str("</main></body></html>\n");
    page
}

/// A web site with one page, on several addresses of loopback.
pub struct Site {
    urls: Vec<String>,
}

impl Site {
    pub async fn serve(page: &str) -> Result<Self> {
        let length = page.len();
        let head = format!(
            "HTTP/1.1 200 OK\r\nContent-Type: text/html; charset=utf-8\r\n\
             Content-Length: {length}\r\nConnection: close\r\n\r\n"
        );
        let answer = Bytes::from([head.as_bytes(), page.as_bytes()].concat());
        let mut urls = Vec::new();
        for host in 1..=HOSTS {
            let listener = TcpListener::bind(SocketAddr::from(([127, 0, 0, host], 0))).await?;
            urls.push(format!("http://{}/", listener.local_addr()?));
            tokio::spawn(accept(listener, answer.clone()));
        }
        Ok(Self { urls })
    }

    /// Returns the URL of the page for request `number`.
    pub fn url(&self, number: usize) -> &str {
        &self.urls[number % self.urls.len()]
    }
}

async fn accept(listener: TcpListener, answer: Bytes) {
    let answer = Arc::new(answer);
    while let Ok((stream, _)) = listener.accept().await {
        let answer = Arc::clone(&answer);
        // If a client disconnects early, the measurement itself fails.
        tokio::spawn(async move {
            let _ = respond(stream, &answer).await;
        });
    }
}

async fn respond(mut stream: TcpStream, answer: &[u8]) -> std::io::Result<()> {
    let mut head = Vec::with_capacity(1024);
    while !head.ends_with(b"\r\n\r\n") {
        if head.len() > HEAD_MAX || stream.read_buf(&mut head).await? == 0 {
            return Ok(());
        }
    }
    stream.write_all(answer).await?;
    stream.shutdown().await
}
