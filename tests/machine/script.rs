//! Golden scripts: what goes in, and after `---` what came out, in `tests/scripts/<domain>/`. Their names are claims.
//!
//! A script is blocks divided by empty lines; a block is one log entry, whose lines are commands (a line that begins with `#`
//! is a comment). Consecutive transfers are one batch.
//!
//! ```text
//! ledger ID ASSET SCALE
//! account ID LEDGER [code=N] [limits=debits|credits|both]
//! transfer ID DEBIT CREDIT AMOUNT [code=N] [metadata=TEXT] [linked]      an account #3 is given by number
//! batch                                                                  divides two batches
//! put KEY VALUE [if=absent|present|INDEX.COMMAND]      delete KEY [if=..]
//! key KEY                                                                the next command is under this idempotency key
//! stamp NANOSECONDS                                                      the leader's clock; 0 unless given, `25h` are hours
//! show records|time|digest|value KEY                                     what to print besides
//! ```
//!
//! Out come a line per reply (per transfer of a batch) and per account whose balance changed. `UPDATE_GOLDEN=1` rewrites the
//! scripts with what came out: read the difference before you commit it. After every script the state is built again from
//! its journal and must be the same.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use quorate::machine::command::{METADATA_LEN_MAX, ModIndex};
use quorate::machine::reply::{Existence, fields};
use quorate::machine::{
    AccountRef, Balance, Command, Expect, Limits, Memory, NewAccount, NewLedger, NewTransfer, Once,
    Record, Rejection, Reply, Store, TransferRecord, TransferResult, entry, once::fingerprint,
};

use crate::history::assert_rebuilds;

#[test]
fn key_value_scripts_give_what_they_say() {
    check_all("kv");
}

#[test]
fn idempotency_scripts_give_what_they_say() {
    check_all("idempotency");
}

#[test]
fn ledger_scripts_give_what_they_say() {
    check_all("ledger");
}

fn check_all(domain: &str) {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/scripts")
        .join(domain);
    let listing = std::fs::read_dir(&dir).expect("the scripts' directory is there");
    let mut scripts: Vec<PathBuf> = listing
        .map(|file| file.expect("readable directory").path())
        .collect();
    scripts.sort();
    assert!(!scripts.is_empty(), "no scripts in {}", dir.display());
    let update = std::env::var_os("UPDATE_GOLDEN").is_some();
    let mut differences = String::new();
    for path in scripts {
        let golden = std::fs::read_to_string(&path).expect("a script is UTF-8");
        let actual = run(&golden);
        if update {
            std::fs::write(&path, actual).expect("scripts can be rewritten");
        } else if golden != actual {
            write!(differences, "\n{}", difference(&path, &golden, &actual))
                .expect("a string takes it");
        }
    }
    assert!(differences.is_empty(), "{differences}");
}

/// The first line in which a script differs from what came out.
fn difference(path: &Path, golden: &str, actual: &str) -> String {
    let (golden, actual): (Vec<_>, Vec<_>) = (golden.lines().collect(), actual.lines().collect());
    let line = golden
        .iter()
        .zip(&actual)
        .take_while(|(golden, actual)| golden == actual)
        .count();
    let at = |lines: &[&str]| (*lines.get(line).unwrap_or(&"(end)")).to_owned();
    format!(
        "{}:{}\n  script: {}\n  actual: {}\n",
        path.display(),
        line + 1,
        at(&golden),
        at(&actual)
    )
}

/// Runs a script and returns it with what really came out.
fn run(script: &str) -> String {
    let mut store = Memory::new();
    let mut out = String::new();
    let mut index = 0;
    for block in script
        .split("\n\n")
        .map(str::trim)
        .filter(|block| !block.is_empty())
    {
        let input = block
            .split("\n---")
            .next()
            .expect("split gives at least one");
        write!(out, "{}{input}", if out.is_empty() { "" } else { "\n" })
            .expect("a string takes it");
        out.push('\n');
        if input.lines().all(|line| line.starts_with('#')) {
            continue;
        }
        index += 1;
        out.push_str("---\n");
        out.push_str(&Block::parse(input).run(&mut store, index));
    }
    if store.applied() == index {
        assert_rebuilds(&store);
    }
    out
}

/// One entry of a script.
#[derive(Default)]
struct Block<'a> {
    stamp_ns: u64,
    commands: Vec<Command<'a>>,
    /// The keys of commands, by their position.
    keys: Vec<(usize, &'a str)>,
    shows: Vec<Vec<&'a str>>,
}

impl<'a> Block<'a> {
    fn parse(input: &'a str) -> Block<'a> {
        let mut block = Block::default();
        let mut batch_open = false;
        for line in input.lines().filter(|line| !line.starts_with('#')) {
            let words: Vec<&str> = line.split_whitespace().collect();
            let (verb, rest) = words.split_first().expect("no empty lines within a block");
            let in_batch = batch_open;
            batch_open = *verb == "transfer";
            match *verb {
                "key" => block.keys.push((block.commands.len(), rest[0])),
                "stamp" => block.stamp_ns = time(rest[0]),
                "show" => block.shows.push(rest.to_vec()),
                "batch" => {}
                "transfer" => match block.commands.last_mut() {
                    Some(Command::Transfers(batch)) if in_batch => batch.push(parse_transfer(rest)),
                    _ => block
                        .commands
                        .push(Command::Transfers(vec![parse_transfer(rest)])),
                },
                _ => block.commands.push(parse_command(verb, rest)),
            }
        }
        for (position, key) in &block.keys {
            let command = block.commands[*position].clone();
            block.commands[*position] = Command::Once(Once {
                key,
                fingerprint: fingerprint("script", &command),
                command: Box::new(command),
            });
        }
        block
    }

    fn run(&self, store: &mut Memory, index: u64) -> String {
        let before = balances(store);
        let bytes = entry::assemble(&self.commands, self.stamp_ns);
        let outcome = match store.apply(index, &bytes) {
            Ok(outcome) => outcome,
            Err(fault) => return format!("fault: {fault}\n"),
        };
        let mut out = String::new();
        for (command, reply) in self.commands.iter().zip(&outcome.replies) {
            write_reply(&mut out, command, reply);
        }
        for (account, (id, balance)) in balances(store).into_iter().enumerate() {
            let had = before
                .get(account)
                .map_or(Balance::default(), |(_, balance)| *balance);
            if had != balance {
                line(&mut out, format_args!("{id}: {}", show_balance(&balance)));
            }
        }
        for words in &self.shows {
            show(&mut out, store, index, words);
        }
        out
    }
}

/// Nanoseconds, or hours.
fn time(text: &str) -> u64 {
    match text.strip_suffix('h') {
        Some(hours) => number::<u64>(hours) * 3_600_000_000_000,
        None => number(text),
    }
}

fn number<T: std::str::FromStr>(text: &str) -> T {
    text.parse()
        .ok()
        .unwrap_or_else(|| panic!("{text:?} is not a number in range"))
}

/// The value of an option `name=value`.
fn option<'a>(words: &[&'a str], name: &str) -> Option<&'a str> {
    words
        .iter()
        .find_map(|word| word.strip_prefix(name)?.strip_prefix('='))
}

fn parse_command<'a>(verb: &str, words: &[&'a str]) -> Command<'a> {
    match verb {
        "put" => Command::KvPut {
            key: words[0],
            value: words[1].as_bytes(),
            expect: parse_expect(words),
        },
        "delete" => Command::KvDelete {
            key: words[0],
            expect: parse_expect(words),
        },
        "ledger" => Command::CreateLedger(NewLedger {
            id: words[0],
            asset: words[1],
            scale: number(words[2]),
        }),
        "account" => Command::CreateAccount(NewAccount {
            id: words[0],
            ledger: words[1],
            code: option(words, "code").map_or(0, number),
            limits: match option(words, "limits") {
                None => Limits::default(),
                Some(which) => Limits {
                    debits_must_not_exceed_credits: matches!(which, "debits" | "both"),
                    credits_must_not_exceed_debits: matches!(which, "credits" | "both"),
                },
            },
        }),
        _ => panic!("unknown command {verb:?}"),
    }
}

fn parse_expect(words: &[&str]) -> Expect {
    match option(words, "if") {
        None => Expect::Any,
        Some("absent") => Expect::Absent,
        Some("present") => Expect::Present,
        Some(at) => {
            let (index, command) = at.split_once('.').expect("INDEX.COMMAND");
            Expect::At(ModIndex {
                index: number(index),
                command: number(command),
            })
        }
    }
}

fn parse_transfer<'a>(words: &[&'a str]) -> NewTransfer<'a> {
    let account = |word: &'a str| match word.strip_prefix('#') {
        Some(given) => AccountRef::Number(number(given)),
        None => AccountRef::Id(word),
    };
    let metadata = option(words, "metadata").unwrap_or("");
    assert!(metadata.len() <= METADATA_LEN_MAX);
    NewTransfer {
        id: words[0],
        debit: account(words[1]),
        credit: account(words[2]),
        amount: number(words[3]),
        code: option(words, "code").map_or(0, number),
        linked: words.contains(&"linked"),
        metadata,
    }
}

fn line(out: &mut String, text: std::fmt::Arguments<'_>) {
    writeln!(out, "{text}").expect("a string takes it");
}

fn balances(store: &mut Memory) -> Vec<(String, Balance)> {
    (1..=store.account_count())
        .map(|number| {
            let id = store.account_id(number).expect("it exists");
            (id, store.account(number).expect("it exists").balance)
        })
        .collect()
}

fn show_balance(balance: &Balance) -> String {
    format!("debits {} credits {}", balance.debits, balance.credits)
}

fn write_reply(out: &mut String, command: &Command<'_>, reply: &Reply) {
    let name = match command {
        Command::KvPut { key, .. } | Command::KvDelete { key, .. } => key,
        Command::CreateLedger(new) => new.id,
        Command::CreateAccount(new) => new.id,
        Command::Transfers(_) => "",
        Command::Once(once) => return write_reply(out, &once.command, reply),
    };
    match reply {
        Reply::Rejected(rejection) => {
            let name = if name.is_empty() { "batch" } else { name };
            line(out, format_args!("{name}: {}", show_rejection(rejection)))
        }
        Reply::KvPut {
            created,
            modified,
            version,
        } => {
            line(
                out,
                format_args!(
                    "{name}: written at {modified}, created at {created}, version {version}"
                ),
            );
        }
        Reply::KvDeleted { was } => line(out, format_args!("{name}: deleted, was {was}")),
        Reply::Replayed(before) => {
            line(out, format_args!("again from entry {}:", before.index));
            write_reply(out, command, &before.reply);
        }
        Reply::Ledger { existence, .. } | Reply::Account { existence, .. } => {
            let word = match existence {
                Existence::Created => "created",
                Existence::Existed => "existed",
            };
            line(out, format_args!("{name}: {word}"));
        }
        Reply::Transfers(results) => {
            let Command::Transfers(batch) = command else {
                panic!("transfers are answered by transfers")
            };
            assert_eq!(batch.len(), results.len(), "a result per transfer");
            for (transfer, result) in batch.iter().zip(results) {
                let result = match result {
                    TransferResult::Created(at) => format!("created at {}.{}", at.index, at.record),
                    TransferResult::Exists(at) => format!("exists at {}.{}", at.index, at.record),
                    TransferResult::Refused(rejection) => show_rejection(rejection),
                };
                line(out, format_args!("{}: {result}", transfer.id));
            }
        }
    }
}

fn show_rejection(rejection: &Rejection) -> String {
    let code = rejection.code();
    match rejection {
        Rejection::PreconditionFailed { current: Some(at) } => format!("{code} (current {at})"),
        Rejection::ExistsWithDifferentFields { fields: bits } => {
            format!(
                "{code} ({})",
                fields::names(*bits).collect::<Vec<_>>().join(", ")
            )
        }
        Rejection::IdempotencyKeyReused { index, time_ns } => {
            format!("{code} (in entry {index} at {time_ns})")
        }
        Rejection::ExceedsCredits { balance } | Rejection::ExceedsDebits { balance } => {
            format!("{code} ({})", show_balance(balance))
        }
        _ => code.to_owned(),
    }
}

fn show(out: &mut String, store: &mut Memory, index: u64, words: &[&str]) {
    match words {
        ["time"] => line(out, format_args!("time {}", store.time_ns())),
        ["digest"] => {
            let hex: String = store
                .digest()
                .iter()
                .map(|byte| format!("{byte:02x}"))
                .collect();
            line(out, format_args!("digest {hex}"));
        }
        ["value", key] => match store.value(key) {
            Some((meta, value)) => {
                let (value, at) = (value.escape_ascii(), meta.modified);
                line(out, format_args!("{key} = {value} (written at {at})"));
            }
            None => line(out, format_args!("{key} does not exist")),
        },
        ["records"] => {
            for (at, bytes) in store.journal().filter(|(at, _)| at.index == index) {
                let record =
                    show_record(&Record::decode(bytes).expect("the journal holds records"));
                line(
                    out,
                    format_args!("record {}.{}: {record}", at.index, at.record),
                );
            }
        }
        _ => panic!("cannot show {words:?}"),
    }
}

fn show_record(record: &Record<'_>) -> String {
    match record {
        Record::Transfer(transfer) => show_transfer(transfer),
        Record::KvPut {
            key,
            modified,
            version,
            ..
        } => format!("put {key} at {modified} version {version}"),
        Record::KvDeleted { key } => format!("deleted {key}"),
        Record::LedgerCreated {
            number,
            id,
            asset,
            scale,
        } => format!("ledger {number} {id} {asset} {scale}"),
        Record::AccountCreated {
            number,
            id,
            ledger,
            code,
            limits,
        } => {
            format!(
                "account {number} {id} ledger {ledger} code {code} limits {}",
                limits.to_bits()
            )
        }
        Record::Answered {
            key,
            fingerprint,
            time_ns,
            reply,
        } => {
            let reply = Reply::from_bytes(reply).expect("the journal holds replies");
            let hex: String = fingerprint[..4]
                .iter()
                .map(|b| format!("{b:02x}"))
                .collect();
            format!("answered {key} ({hex}...) at {time_ns}: {reply:?}")
        }
        Record::AnswerForgotten { key, at } => {
            format!("forgot {key}, answered at {}.{}", at.index, at.record)
        }
    }
}

fn show_transfer(transfer: &TransferRecord<'_>) -> String {
    let side = |number: u64, id: &str, after: &Balance| match number {
        0 => format!("{id} (did not exist)"),
        _ => format!("#{number} ({})", show_balance(after)),
    };
    format!(
        "{} {} of {} from {} to {}",
        transfer.id,
        if transfer.refusal == 0 {
            "posted".to_owned()
        } else {
            format!("refused for ever ({})", transfer.refusal)
        },
        transfer.amount,
        side(transfer.debit, transfer.debit_id, &transfer.debit_after),
        side(transfer.credit, transfer.credit_id, &transfer.credit_after),
    )
}
