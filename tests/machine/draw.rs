//! Random histories from small pools, so that ids are used again with the same and with other fields, whole batches are sent
//! again, accounts appear after they were asked for, and amounts reach the end of 128 bits.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestError, TestRng, TestRunner};

use quorate::machine::command::ModIndex;
use quorate::machine::{Expect, Limits};

use crate::model::{Ask, Transfer};

const LEDGERS: [&str; 2] = ["usd", "eur"];
const ACCOUNTS: [&str; 6] = ["a", "b", "c", "d", "e", "f"];
pub(crate) const KEYS: [&str; 3] = ["k", "k/l", "\u{fc}"];
pub(crate) const IDEMPOTENCY_KEYS: [&str; 4] = ["once", "Once", "~ ", "1"];
pub(crate) const CASES: u32 = 4000;

/// Draws `CASES` values (or as many as `QUORATE_CASES` says) and runs `test` on each; a failure names the seed that
/// `QUORATE_SEED` replays.
pub(crate) fn for_all<S: Strategy>(
    strategy: &S,
    test: impl Fn(S::Value) -> Result<(), TestCaseError>,
) {
    let drawn = || std::hash::BuildHasher::hash_one(&std::hash::RandomState::new(), 0);
    let seed: u64 = setting("QUORATE_SEED").unwrap_or_else(drawn);
    let cases = setting("QUORATE_CASES").map_or(CASES, |cases| {
        u32::try_from(cases).expect("cases fit a u32")
    });
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
    let config = Config {
        cases,
        failure_persistence: None,
        ..Config::default()
    };
    let failure = match TestRunner::new_with_rng(config, rng).run(strategy, test) {
        Ok(()) => return,
        Err(TestError::Fail(reason, value)) => {
            format!("{reason}\nsmallest value found: {value:#?}")
        }
        Err(TestError::Abort(reason)) => reason.to_string(),
    };
    panic!("QUORATE_SEED={seed}: {failure}");
}

fn setting(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(
        text.parse()
            .expect("a seed or a number of cases is a number"),
    )
}

/// One command, in terms of the pools.
#[derive(Clone, Debug)]
enum Step {
    Plain(Ask),
    /// Transfers of the pool: which, what is changed in it, and whether accounts are named by number where they exist.
    Batch(Vec<(usize, Change, bool)>),
    /// An earlier batch again.
    Again(usize),
    /// A step under an idempotency key.
    Once(&'static str, Box<Step>),
    /// An earlier one of those again.
    OnceAgain(usize),
}

#[derive(Clone, Copy, Debug)]
enum Change {
    None,
    Debit,
    Credit,
    Amount,
    Code,
    Metadata,
    Linked,
}

#[derive(Clone, Debug)]
pub(crate) struct History {
    pool: Vec<Transfer>,
    /// Hours since the entry before, and what is asked.
    entries: Vec<(u64, Vec<Step>)>,
}

fn amount() -> impl Strategy<Value = u128> {
    prop_oneof![
        1 => Just(0),
        24 => 1u128..60,
        1 => Just(u128::MAX),
        1 => Just(u128::MAX - 40),
        1 => Just(u128::MAX / 2),
    ]
}

fn limits() -> impl Strategy<Value = Limits> {
    (prop::bool::weighted(0.2), prop::bool::weighted(0.2)).prop_map(|(debits, credits)| Limits {
        debits_must_not_exceed_credits: debits,
        credits_must_not_exceed_debits: credits,
    })
}

fn name(pool: &'static [&'static str]) -> impl Strategy<Value = String> {
    prop::sample::select(pool).prop_map(str::to_owned)
}

/// A transfer of the pool; without an id it gets one of its own from its place.
fn transfer() -> impl Strategy<Value = Transfer> {
    let metadata = prop::sample::select(&["", "", "{}", "{\"a\":1}"][..]).prop_map(str::to_owned);
    let linked = prop::bool::weighted(0.25);
    let id = prop_oneof![9 => Just(None), 1 => (0..16usize).prop_map(Some)];
    (
        id,
        // The second is mostly the one `apart` after the first, so seldom the same.
        (
            0..ACCOUNTS.len(),
            prop_oneof![1 => Just(0), 30 => 1..ACCOUNTS.len()],
        ),
        amount(),
        0u32..2,
        linked,
        metadata,
    )
        .prop_map(
            |(id, (debit, apart), amount, code, linked, metadata)| Transfer {
                id: id.map(|id| format!("t{id}")).unwrap_or_default(),
                debit: ACCOUNTS[debit].to_owned(),
                credit: ACCOUNTS[(debit + apart) % ACCOUNTS.len()].to_owned(),
                amount,
                code,
                linked,
                metadata,
            },
        )
}

fn step(pool: usize) -> impl Strategy<Value = Step> {
    let expect = prop_oneof![
        3 => Just(Expect::Any),
        1 => Just(Expect::Absent),
        1 => Just(Expect::Present),
        2 => (1u64..8, 0u32..4).prop_map(|(index, command)| Expect::At(ModIndex { index, command })),
    ];
    let change = prop_oneof![
        40 => Just(Change::None),
        1 => Just(Change::Debit),
        1 => Just(Change::Credit),
        1 => Just(Change::Amount),
        1 => Just(Change::Code),
        1 => Just(Change::Metadata),
        1 => Just(Change::Linked),
    ];
    let ledger = (name(&LEDGERS), prop::bool::weighted(0.1)).prop_map(|(id, other)| {
        let asset = if other { "XXX" } else { "ABC" }.to_owned();
        Ask::Ledger {
            id,
            asset,
            scale: 2,
        }
    });
    let account = (name(&ACCOUNTS), name(&LEDGERS), 0u32..2, limits()).prop_map(
        |(id, ledger, code, limits)| Ask::Account {
            id,
            ledger,
            code,
            limits,
        },
    );
    let plain = prop_oneof![
        2 => ledger.prop_map(Step::Plain),
        6 => account.prop_map(Step::Plain),
        2 => (name(&KEYS), vec(any::<u8>(), 0..4), expect.clone())
            .prop_map(|(key, value, expect)| Step::Plain(Ask::Put { key, value, expect })),
        1 => (name(&KEYS), expect).prop_map(|(key, expect)| Step::Plain(Ask::Delete { key, expect })),
        10 => vec((0..pool, change, any::<bool>()), 1..7).prop_map(Step::Batch),
        3 => (0usize..20).prop_map(Step::Again),
    ];
    let key = prop::sample::select(&IDEMPOTENCY_KEYS[..]);
    prop_oneof![
        20 => plain.clone(),
        5 => (key, plain).prop_map(|(key, step)| Step::Once(key, Box::new(step))),
        4 => (0usize..20).prop_map(Step::OnceAgain),
    ]
}

/// The first entry: both ledgers and most accounts, mostly in one of them, so that most transfers have a chance.
fn opening() -> impl Strategy<Value = Vec<Step>> {
    let ledgers = LEDGERS.map(|id| Ask::Ledger {
        id: id.to_owned(),
        asset: "ABC".to_owned(),
        scale: 2,
    });
    let account = |id: &'static str| {
        let ledger = prop_oneof![12 => Just("usd"), 1 => Just("eur")];
        prop::option::weighted(0.9, (ledger, limits())).prop_map(move |drawn| {
            let (ledger, limits) = drawn?;
            Some(Ask::Account {
                id: id.to_owned(),
                ledger: ledger.to_owned(),
                code: 0,
                limits,
            })
        })
    };
    let accounts = Vec::from(ACCOUNTS.map(account));
    (Just(ledgers), accounts).prop_map(|(ledgers, accounts)| {
        ledgers
            .into_iter()
            .chain(accounts.into_iter().flatten())
            .map(Step::Plain)
            .collect()
    })
}

pub(crate) fn history() -> impl Strategy<Value = History> {
    let pool = vec(transfer(), 16).prop_map(|mut pool: Vec<Transfer>| {
        for (place, transfer) in pool.iter_mut().enumerate() {
            if transfer.id.is_empty() {
                transfer.id = format!("t{place}");
            }
        }
        pool
    });
    (
        pool,
        opening(),
        vec((prop_oneof![Just(0), 1u64..30], vec(step(16), 0..6)), 1..12),
        prop::bool::weighted(0.9),
    )
        .prop_map(|(pool, opening, mut entries, opened)| {
            if opened {
                entries.insert(0, (0, opening));
            }
            History { pool, entries }
        })
}

impl History {
    /// The commands, with which transfers prefer numbers.
    pub(crate) fn asks(&self) -> Vec<Vec<(Ask, Vec<bool>)>> {
        let (mut batches, mut keyed) = (Vec::new(), Vec::new());
        let mut resolve = |step: &Step| match step {
            Step::Once(key, step) => {
                let (ask, numbers) = self.resolve(step, &mut batches)?;
                let ask = Ask::Once {
                    key: (*key).to_owned(),
                    ask: Box::new(ask),
                };
                keyed.push((ask, numbers));
                keyed.last().cloned()
            }
            Step::OnceAgain(which) => keyed.get(*which % keyed.len().max(1)).cloned(),
            step => self.resolve(step, &mut batches),
        };
        self.entries
            .iter()
            .map(|(_, steps)| steps.iter().filter_map(&mut resolve).collect())
            .collect()
    }

    /// The leader's stamp of each entry.
    pub(crate) fn stamps(&self) -> impl Iterator<Item = u64> {
        self.entries.iter().scan(10, |stamp_ns, (hours, _)| {
            *stamp_ns += hours * 3_600_000_000_000;
            Some(*stamp_ns)
        })
    }

    fn resolve(
        &self,
        step: &Step,
        batches: &mut Vec<(Ask, Vec<bool>)>,
    ) -> Option<(Ask, Vec<bool>)> {
        match step {
            Step::Plain(ask) => Some((ask.clone(), Vec::new())),
            Step::Again(which) => batches.get(*which % batches.len().max(1)).cloned(),
            Step::Batch(members) => {
                let batch = members
                    .iter()
                    .map(|(which, change, _)| changed(&self.pool[*which], *change))
                    .collect();
                let numbers = members.iter().map(|member| member.2).collect();
                batches.push((Ask::Transfers(batch), numbers));
                batches.last().cloned()
            }
            Step::Once(..) | Step::OnceAgain(_) => panic!("a key within a key"),
        }
    }
}

fn changed(transfer: &Transfer, change: Change) -> Transfer {
    let mut transfer = transfer.clone();
    match change {
        Change::None => {}
        Change::Debit => transfer.debit = "a".to_owned(),
        Change::Credit => transfer.credit = "b".to_owned(),
        Change::Amount => transfer.amount = 7,
        Change::Code => transfer.code ^= 1,
        Change::Metadata => transfer.metadata.push(' '),
        Change::Linked => transfer.linked = !transfer.linked,
    }
    transfer
}
