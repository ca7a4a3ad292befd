//! API keys: the key file, its owners and their limits.
//!
//! A key has 256 random bits, so it cannot be guessed, and a plain SHA-256 protects it as well as a
//! slow hash would. Only hashes are stored and compared. The duration of a comparison reveals at
//! most a hash, from which no key can be derived.

use std::collections::HashMap;
use std::sync::Arc;

use axum::http::HeaderMap;
use axum::http::header::AUTHORIZATION;
use data_encoding::HEXLOWER;
use serde::Deserialize;
use serde_json::json;
use sha2::{Digest, Sha256};
use tokio::sync::watch;
use wordmill_common::id::Owner;
use wordmill_common::secret::Secret;

use crate::auth::limits::{Quota, Rate, TokenBucket};

/// Prefix of every key, by which people and secret scanners recognize it.
const PREFIX: &str = "wm_";
/// Length of the random part, in bytes.
const RANDOM_BYTES: usize = 32;
/// Length of a key, in bytes.
const KEY_BYTES: usize = PREFIX.len() + 2 * RANDOM_BYTES;
/// Maximum number of names in a key file.
const NAMES_MAX: usize = 10_000;
/// Maximum number of keys per name. A rotation needs two; further ones are for clients that switch
/// late.
const HASHES_MAX: usize = 8;
/// Maximum length of a name, in bytes.
const NAME_BYTES_MAX: usize = 64;
/// Token in place of the owner in the subjects of unreadable messages. No owner may have this name.
const RESERVED: &str = "unreadable";

/// SHA-256 of a key, which identifies it.
pub(crate) type KeyHash = [u8; 32];

/// One line of the key file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    name: String,
    owner: Owner,
    sha256: Vec<String>,
    rate_limit: Option<Rate>,
    queue_quota: Option<u64>,
}

/// Holder of one key. All keys of a name share the `bucket`.
#[derive(Debug)]
pub(crate) struct Holder {
    pub(crate) name: String,
    pub(crate) owner: Owner,
    pub(crate) bucket: Option<Arc<TokenBucket>>,
    pub(crate) hash: KeyHash,
}

/// Parsed key file.
#[derive(Debug, Default)]
pub(crate) struct Table {
    holders: HashMap<KeyHash, Arc<Holder>>,
    buckets: HashMap<String, Arc<TokenBucket>>,
    quotas: HashMap<Owner, Arc<Quota>>,
}

/// Current keys, or `None` if the gateway needs no keys. Clones share them.
#[derive(Debug, Clone)]
pub(crate) struct Keys(pub(crate) Option<watch::Receiver<Arc<Table>>>);

impl Keys {
    /// Returns the current keys; `None` if the gateway needs no keys.
    pub(crate) fn table(&self) -> Option<Arc<Table>> {
        self.0.as_ref().map(|table| Arc::clone(&table.borrow()))
    }

    /// Returns the quota of an owner, if it has one.
    pub(crate) fn quota(&self, owner: &Owner) -> Option<Arc<Quota>> {
        self.table()?.quotas.get(owner).cloned()
    }

    /// Returns the validity of the key `hash` of `owner`. It never ends if the gateway needs no
    /// keys.
    pub(crate) fn key_validity(&self, owner: &Owner, hash: Option<KeyHash>) -> KeyValidity {
        KeyValidity { table: self.0.clone(), owner: owner.clone(), hash }
    }
}

/// Validity of the API key during a long response. It ends once the key file no longer lists this
/// key for this owner. Other keys of the same name or owner do not extend it.
#[derive(Debug, Clone)]
pub(crate) struct KeyValidity {
    table: Option<watch::Receiver<Arc<Table>>>,
    owner: Owner,
    hash: Option<KeyHash>,
}

impl KeyValidity {
    /// Returns whether the key is still valid.
    pub(crate) fn is_valid(&self) -> bool {
        match (&self.table, &self.hash) {
            (Some(table), Some(hash)) => table.borrow().has_key(hash, &self.owner),
            _ => true,
        }
    }

    /// Waits until the key is revoked. Never returns if the gateway has no keys.
    pub(crate) async fn wait_until_revoked(self) {
        if let (Some(mut table), Some(hash)) = (self.table, self.hash) {
            let revoked = table.wait_for(|table| !table.has_key(&hash, &self.owner)).await;
            // The sender is dropped only at shutdown, which ends the streams itself.
            if revoked.is_ok() {
                return;
            }
        }
        std::future::pending::<()>().await;
    }
}

impl Table {
    /// Returns the holder of the request's key; `None` if the key is missing or invalid, or if
    /// there are several `Authorization` headers.
    pub(crate) fn find_holder(&self, headers: &HeaderMap) -> Option<Arc<Holder>> {
        let mut values = headers.get_all(AUTHORIZATION).iter();
        // With several headers, it would be unclear which key applies.
        let value = values.next().filter(|_| values.next().is_none())?.to_str().ok()?;
        let (scheme, key) = value.split_once(' ')?;
        let key = key.trim_start_matches(' ');
        // Do not hash a key of the wrong length.
        if !scheme.eq_ignore_ascii_case("bearer") || key.len() != KEY_BYTES {
            return None;
        }
        self.holders.get(&hash_key(key)).cloned()
    }

    /// Returns whether a key is valid for an owner.
    fn has_key(&self, hash: &KeyHash, owner: &Owner) -> bool {
        self.holders.get(hash).is_some_and(|holder| holder.owner == *owner)
    }
}

/// Parses a key file: one JSON object per line; empty lines and lines that begin with `#` are
/// ignored. Unchanged rate limits and quotas keep their state from the `old` table.
///
/// # Errors
/// A message with the number of the first invalid line.
pub(crate) fn parse(contents: &[Vec<u8>], old: Option<&Table>) -> Result<Table, String> {
    let content: Vec<u8> = contents.concat();
    let text = std::str::from_utf8(&content).map_err(|_| "the file is not UTF-8".to_owned())?;
    let mut table = Table::default();
    let mut names = HashMap::new();
    for (index, line) in text.lines().enumerate() {
        if line.trim().is_empty() || line.starts_with('#') {
            continue;
        }
        let line: Result<Line, String> = serde_json::from_str(line).map_err(|e| e.to_string());
        let added = line.and_then(|line| {
            if names.insert(line.name.clone(), index).is_some() {
                return Err(format!("the name {} occurs twice", line.name));
            }
            table.add(&line, old)
        });
        added.map_err(|reason| format!("line {}: {reason}", index + 1))?;
    }
    match names.len() {
        // Do not lock out all clients because of a file that is just being written.
        0 => Err("the file contains no names (to list a name without keys, use \"sha256\": [])"
            .to_owned()),
        1..=NAMES_MAX => Ok(table),
        _ => Err(format!("the file contains more than {NAMES_MAX} names")),
    }
}

impl Table {
    fn add(&mut self, line: &Line, old: Option<&Self>) -> Result<(), String> {
        check_name(&line.name)?;
        check_owner(&line.owner)?;
        if line.sha256.len() > HASHES_MAX {
            return Err(format!("a name can have at most {HASHES_MAX} keys"));
        }
        let bucket = match line.rate_limit {
            Some(rate) => Some(self.add_bucket(&line.name, rate, old)?),
            None => None,
        };
        if let Some(jobs_max) = line.queue_quota {
            self.add_quota(&line.owner, jobs_max, old)?;
        }
        for text in &line.sha256 {
            let hash = parse_hash(text).ok_or("a SHA-256 must be 64 characters of 0-9 and a-f")?;
            let name = line.name.clone();
            let owner = line.owner.clone();
            let holder = Holder { name, owner, bucket: bucket.clone(), hash };
            if self.holders.insert(hash, Arc::new(holder)).is_some() {
                return Err(format!("the key {text} occurs twice"));
            }
        }
        Ok(())
    }

    fn add_bucket(
        &mut self,
        name: &str,
        rate: Rate,
        old: Option<&Self>,
    ) -> Result<Arc<TokenBucket>, String> {
        rate.check()?;
        let previous =
            old.and_then(|old| old.buckets.get(name)).filter(|previous| previous.rate() == rate);
        let bucket = previous.map_or_else(|| Arc::new(TokenBucket::new(rate)), Arc::clone);
        self.buckets.insert(name.to_owned(), Arc::clone(&bucket));
        Ok(bucket)
    }

    fn add_quota(
        &mut self,
        owner: &Owner,
        jobs_max: u64,
        old: Option<&Self>,
    ) -> Result<(), String> {
        Quota::check(jobs_max)?;
        let previous =
            old.and_then(|old| old.quotas.get(owner)).filter(|previous| previous.max() == jobs_max);
        let quota = previous.map_or_else(|| Arc::new(Quota::new(jobs_max)), Arc::clone);
        match self.quotas.insert(owner.clone(), quota) {
            Some(other) if other.max() != jobs_max => {
                Err(format!("the owner {owner} has another queue_quota in an earlier line"))
            }
            Some(_) | None => Ok(()),
        }
    }
}

/// Creates a key and its line for the key file.
///
/// # Errors
/// A message if the name or the owner is invalid, or if the system cannot provide random numbers.
pub fn create(name: &str, owner: &str) -> Result<(Secret, String), String> {
    check_name(name)?;
    let owner = Owner::try_from(owner.to_owned()).map_err(|error| error.to_string())?;
    check_owner(&owner)?;
    let mut random = [0; RANDOM_BYTES];
    getrandom::fill(&mut random)
        .map_err(|error| format!("cannot generate random numbers: {error}"))?;
    let key = format!("{PREFIX}{}", HEXLOWER.encode(&random));
    let line = json!({"name": name, "owner": owner, "sha256": [HEXLOWER.encode(&hash_key(&key))]});
    Ok((Secret::new(key), line.to_string()))
}

fn check_name(name: &str) -> Result<(), String> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
    if name.is_empty() || name.len() > NAME_BYTES_MAX || !name.chars().all(plain) {
        return Err(format!(
            "a name must be 1 to {NAME_BYTES_MAX} characters of a-z, A-Z, 0-9, _, - and ."
        ));
    }
    Ok(())
}

fn check_owner(owner: &Owner) -> Result<(), String> {
    let is_reserved = owner.as_str() == RESERVED;
    if is_reserved { Err(format!("the owner name {RESERVED} is reserved")) } else { Ok(()) }
}

fn hash_key(key: &str) -> KeyHash {
    Sha256::digest(key).into()
}

/// Parses a SHA-256 of 64 lower-case hexadecimal digits.
fn parse_hash(text: &str) -> Option<KeyHash> {
    HEXLOWER.decode(text.as_bytes()).ok()?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    fn read(text: &str) -> Result<Table, String> {
        parse(&[text.as_bytes().to_vec()], None)
    }

    fn with(value: &str) -> HeaderMap {
        [(AUTHORIZATION, value.parse().unwrap())].into_iter().collect()
    }

    fn owner(table: &Table, value: &str) -> Option<String> {
        table.find_holder(&with(value)).map(|holder| holder.owner.to_string())
    }

    #[test]
    fn a_key_identifies_only_its_owner() {
        let (key, line) = create("team-a", "a").unwrap();
        let (other, other_line) = create("Team.B", "b").unwrap();
        assert!(!line.contains(key.expose()) && key.expose().starts_with("wm_"), "{line}");
        let table = read(&format!("# Keys\n\n{line}\n{other_line}\n")).unwrap();
        let key = key.expose();
        for good in [format!("Bearer {key}"), format!("bearer {key}"), format!("BEARER   {key}")] {
            assert_eq!(owner(&table, &good).as_deref(), Some("a"), "{good}");
        }
        assert_eq!(owner(&table, &format!("Bearer {}", other.expose())).as_deref(), Some("b"));
        let stranger = create("team-a", "a").unwrap().0;
        let short = key.get(..66).unwrap();
        for bad in [
            "",
            "Bearer",
            "Bearer ",
            key,
            &format!("Basic {key}"),
            &format!("Bearer {key} "),
            &format!("Bearer {key}0"),
            &format!("Bearer {short}"),
            &format!("Bearer {}", key.to_uppercase()),
            &format!("Bearer {}", stranger.expose()),
        ] {
            assert_eq!(owner(&table, bad), None, "{bad}");
        }
        let mut twice = with(&format!("Bearer {key}"));
        twice.append(AUTHORIZATION, format!("Bearer {key}").parse().unwrap());
        assert!(table.find_holder(&twice).is_none());
        assert!(table.find_holder(&HeaderMap::new()).is_none());
    }

    #[tokio::test]
    async fn only_revoking_its_own_key_ends_an_admission() {
        let line = |name: &str, owner: &str, digit: &str| {
            json!({"name": name, "owner": owner, "sha256": [digit.repeat(64)]}).to_string() + "\n"
        };
        let table = |lines: &[String]| Arc::new(read(&lines.concat()).unwrap());
        let ours = line("a", "team", "1");
        let other = line("b", "team", "2");
        let (sender, receiver) = watch::channel(table(&[ours.clone(), other.clone()]));
        let keys = Keys(Some(receiver));
        let team = Owner::try_from("team".to_owned()).unwrap();
        let validity = keys.key_validity(&team, Some([0x11; 32]));
        let mut revoked = Box::pin(validity.clone().wait_until_revoked());
        sender.send_replace(table(std::slice::from_ref(&ours)));
        assert!(validity.is_valid() && revoked.as_mut().now_or_never().is_none());
        // Another key under the same name, and the same key under another owner.
        for lines in [[line("a", "team", "3"), other.clone()], [line("a", "else", "1"), other]] {
            sender.send_replace(table(std::slice::from_ref(&ours)));
            let mut revoked = Box::pin(validity.clone().wait_until_revoked());
            assert!(validity.is_valid() && revoked.as_mut().now_or_never().is_none());
            sender.send_replace(table(&lines));
            assert!(!validity.is_valid() && revoked.as_mut().now_or_never().is_some());
        }
        assert!(Keys(None).key_validity(&team, None).is_valid());
    }

    #[test]
    fn a_name_can_have_several_keys() {
        let keys: Vec<String> = (0..3).map(|n| format!("{PREFIX}{n:064}")).collect();
        let hashes: Vec<String> = keys.iter().map(|key| HEXLOWER.encode(&hash_key(key))).collect();
        let line = json!({"name": "team", "owner": "a", "sha256": hashes[..2]});
        let table = read(&line.to_string()).unwrap();
        let is_known = |key: &String| owner(&table, &format!("Bearer {key}")).is_some();
        assert_eq!(keys.iter().map(is_known).collect::<Vec<_>>(), [true, true, false]);
        assert!(read(r#"{"name": "team", "owner": "a", "sha256": []}"#).is_ok());
    }

    #[test]
    fn an_invalid_file_is_reported_with_its_line() {
        let line = create("team", "a").unwrap().1;
        let sha256 = "0".repeat(64);
        let with =
            |more: &str| format!(r#"{{"name":"b","owner":"b","sha256":["{sha256}"]{more}}}"#);
        for (text, expected) in [
            ("\n# nothing\n".to_owned(), "contains no names"),
            (format!("{line}\n{line}"), "line 2: the name team occurs twice"),
            (format!("{line}\n{}", line.replace("team", "b")), "occurs twice"),
            ("{".to_owned(), "line 1: EOF"),
            ("[]".to_owned(), "line 1: "),
            (with(r#","colour":"red""#), "unknown field `colour`"),
            (with("").replace("\"b\"", "\"B b\""), "line 1: "),
            (with("").replace("\"owner\":\"b\"", "\"owner\":\"b.c\""), "an owner must be"),
            (with("").replace("\"owner\":\"b\"", "\"owner\":\"unreadable\""), "is reserved"),
            (with("").replace(&sha256, &"A".repeat(64)), "a SHA-256 must be"),
            (with("").replace(&sha256, "00"), "a SHA-256 must be"),
            (with(r#","queue_quota":0"#), "a queue_quota must be"),
            (with(r#","rate_limit":{"per_second":0,"burst":1}"#), "a rate_limit must have"),
            (with(r#","rate_limit":{"per_second":1,"burst":0}"#), "a rate_limit must have"),
            (with(r#","rate_limit":{"per_second":1}"#), "missing field `burst`"),
            (
                format!(
                    "{}\n{}",
                    with(r#","queue_quota":5"#),
                    r#"{"name":"c","owner":"b","sha256":[],"queue_quota":6}"#
                ),
                "line 2: the owner b has another queue_quota",
            ),
        ] {
            let error = read(&text).map(drop).unwrap_err();
            assert!(error.contains(expected), "{error:?} instead of {expected:?} for {text}");
        }
        assert!(parse(&[vec![0xff]], None).is_err());
        let many = "0".repeat(64);
        let none = Vec::<String>::new();
        let nine = json!({"name": "b", "owner": "b", "sha256": vec![many; 9]});
        assert!(read(&nine.to_string()).is_err());
        assert!(read(&json!({"name": "b", "owner": "b", "sha256": none}).to_string()).is_ok());
    }

    #[test]
    fn a_reload_keeps_the_state_of_limits() {
        let text = r#"{"name":"a","owner":"a","sha256":[],"rate_limit":{"per_second":1,"burst":1},"queue_quota":5}"#;
        let old = read(text).unwrap();
        let changed = text.replace("\"burst\":1", "\"burst\":2").replace(":5", ":6");
        for (text, is_kept) in [(text, true), (changed.as_str(), false)] {
            let new = parse(&[text.as_bytes().to_vec()], Some(&old)).unwrap();
            assert_eq!(Arc::ptr_eq(&new.buckets["a"], &old.buckets["a"]), is_kept);
            let owner = Owner::try_from("a".to_owned()).unwrap();
            assert_eq!(Arc::ptr_eq(&new.quotas[&owner], &old.quotas[&owner]), is_kept);
        }
    }

    #[test]
    fn invalid_names_are_refused() {
        for (name, owner) in [("", "a"), ("a b", "a"), ("a", "A"), ("a", ""), ("a", "unreadable")] {
            assert!(create(name, owner).is_err(), "{name} {owner}");
        }
    }
}
