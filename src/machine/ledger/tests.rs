use crate::machine::entry::assemble;
use crate::machine::{
    Account, AccountRef, Answer, Command, Fault, KvMeta, Ledger, Limits, Memory, NewAccount,
    NewLedger, NewTransfer, OldAnswer, Outcome, Position, Record, Reply, Store, TransferResult,
    apply,
};

/// A store that counts what it is asked, and that may lose a unit of every credit of its ledgers.
#[derive(Default)]
struct Watched {
    memory: Memory,
    finds: u32,
    records: u32,
    loses_credits: bool,
}

impl Store for Watched {
    fn ledger_count(&self) -> u32 {
        self.memory.ledger_count()
    }
    fn ledger(&self, number: u32) -> Option<Ledger> {
        let ledger = self.memory.ledger(number)?;
        let lost = if self.loses_credits { 1 } else { 0 };
        Some(Ledger {
            credits: ledger.credits.saturating_sub(lost),
            ..ledger
        })
    }
    fn ledger_asset(&self, number: u32) -> Option<&str> {
        self.memory.ledger_asset(number)
    }
    fn find_ledger(&self, id: &str) -> Option<u32> {
        self.memory.find_ledger(id)
    }
    fn account_count(&self) -> u64 {
        self.memory.account_count()
    }
    fn account(&self, number: u64) -> Option<Account> {
        self.memory.account(number)
    }
    fn find_account(&mut self, id: &str) -> Result<Option<u64>, Fault> {
        self.memory.find_account(id)
    }
    fn account_id(&mut self, number: u64) -> Result<String, Fault> {
        self.memory.account_id(number)
    }
    fn find_transfer(&mut self, id: &str) -> Result<Option<Position>, Fault> {
        self.finds = self.finds.saturating_add(1);
        self.memory.find_transfer(id)
    }
    fn record(&mut self, at: Position) -> Result<Vec<u8>, Fault> {
        self.records = self.records.saturating_add(1);
        self.memory.record(at)
    }
    fn kv(&mut self, key: &str) -> Result<Option<KvMeta>, Fault> {
        self.memory.kv(key)
    }
    fn find_answer(&mut self, key: &str) -> Result<Option<Answer>, Fault> {
        self.memory.find_answer(key)
    }
    fn answer_count(&self) -> u64 {
        self.memory.answer_count()
    }
    fn oldest_answer_ns(&mut self) -> Result<Option<u64>, Fault> {
        self.memory.oldest_answer_ns()
    }
    fn oldest_answers(&mut self, until_ns: u64, max: u32) -> Result<Vec<OldAnswer>, Fault> {
        self.memory.oldest_answers(until_ns, max)
    }
    fn append(&mut self, record: &Record<'_>) -> Result<Position, Fault> {
        self.memory.append(record)
    }
    fn mark(&self) -> u32 {
        self.memory.mark()
    }
    fn undo_to(&mut self, mark: u32) -> Result<(), Fault> {
        self.memory.undo_to(mark)
    }
}

impl Watched {
    fn run(&mut self, index: u64, commands: &[Command<'_>]) -> Result<Outcome, Fault> {
        self.memory.begin(index);
        let outcome = apply(&assemble(commands, 0), index, self.memory.time_ns(), self)?;
        self.memory.finish(outcome.time_ns);
        Ok(outcome)
    }

    fn with_accounts() -> Watched {
        let account = |id| {
            Command::CreateAccount(NewAccount {
                id,
                ledger: "usd",
                code: 0,
                limits: Limits::default(),
            })
        };
        let ledger = Command::CreateLedger(NewLedger {
            id: "usd",
            asset: "USD",
            scale: 2,
        });
        let mut store = Watched::default();
        store.run(1, &[ledger, account("a"), account("b")]).unwrap();
        store
    }
}

fn transfer(id: &str) -> NewTransfer<'_> {
    let (debit, credit) = (AccountRef::Number(1), AccountRef::Id("b"));
    NewTransfer {
        id,
        debit,
        credit,
        amount: 1,
        code: 0,
        linked: false,
        metadata: "",
    }
}

#[test]
fn an_id_is_looked_up_once_and_a_record_read_only_for_a_known_one() {
    let mut store = Watched::with_accounts();
    let chain = [
        NewTransfer {
            linked: true,
            ..transfer("t2")
        },
        transfer("t3"),
    ];
    store
        .run(
            2,
            &[Command::Transfers([&[transfer("t1")], &chain[..]].concat())],
        )
        .unwrap();
    assert_eq!((store.finds, store.records), (3, 0));
    store
        .run(
            3,
            &[Command::Transfers(vec![transfer("t1"), transfer("t4")])],
        )
        .unwrap();
    assert_eq!((store.finds, store.records), (5, 1));
}

#[test]
#[should_panic(expected = "debits and credits of ledger number 1 differ")]
fn an_entry_that_leaves_a_ledger_out_of_balance_stops_the_node() {
    let mut store = Watched::with_accounts();
    store.loses_credits = true;
    let _ = store.run(2, &[Command::Transfers(vec![transfer("t1")])]);
}

#[test]
fn bytes_that_are_no_entry_are_a_fault_that_names_it() {
    let mut store = Memory::new();
    store.begin(7);
    let fault = apply(b"nonsense", 7, 0, &mut store).unwrap_err();
    assert!(fault.what.starts_with("log entry 7: "), "{fault}");
}

#[test]
fn an_id_that_leads_to_another_record_is_a_fault() {
    let mut store = Watched::with_accounts();
    let at = Position {
        index: 1,
        record: 0,
    };
    let compared = super::known::compare(&mut store, &transfer("t1"), at).map(|_| ());
    assert!(compared.unwrap_err().what.contains("record 1.0"));
}

#[test]
fn a_full_batch_is_answered_one_by_one() {
    let mut store = Watched::with_accounts();
    let ids: Vec<String> = (0..8190).map(|number| format!("t{number}")).collect();
    let batch = ids.iter().map(|id| transfer(id)).collect();
    let outcome = store.run(2, &[Command::Transfers(batch)]).unwrap();
    let [Reply::Transfers(results)] = outcome.replies.as_slice() else {
        panic!("one batch, one reply")
    };
    assert_eq!(results.len(), 8190);
    for (result, record) in results.iter().zip(0..) {
        assert_eq!(
            *result,
            TransferResult::Created(Position { index: 2, record })
        );
    }
}
