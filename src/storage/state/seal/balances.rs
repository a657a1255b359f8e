//! Sealing balances: pages of 32 accounts, each as it is when it is copied.

use super::super::core::Core;
use super::super::db::Table;
use super::super::layout::{PAGE_ACCOUNTS, push_page_row};
use crate::machine::Fault;

/// Pages copied under one lock of the state: 2,048 accounts, some tens of microseconds.
const PAGES_AT_ONCE: usize = 64;

/// Writes the pages whose bits are set in `dirty`. See the proof at [`super`], step 5: rows go to the memory tables only after
/// the journal of the newest entry whose effect they may hold.
pub(super) fn write(core: &Core, dirty: &[u64]) -> Result<(), Fault> {
    let pages: Vec<usize> = (0..dirty.len() * 64)
        .filter(|page| dirty[page / 64] >> (page % 64) & 1 == 1)
        .collect();
    for some in pages.chunks(PAGES_AT_ONCE) {
        let mut batch = core.db.batch();
        let newest = {
            let live = core.read()?;
            let mut value = Vec::new();
            for &page in some {
                let first = page * PAGE_ACCOUNTS;
                let last = live.accounts.len().min(first + PAGE_ACCOUNTS);
                value.clear();
                live.accounts[first..last]
                    .iter()
                    .for_each(|account| push_page_row(&account.page_row(), &mut value));
                batch.put(Table::Balances, &(page as u64).to_be_bytes(), &value);
            }
            live.index
        };
        core.point("balances:copied")?;
        core.wait_written(newest)?;
        core.db.write(batch)?;
        core.point("balances:written")?;
    }
    Ok(())
}
