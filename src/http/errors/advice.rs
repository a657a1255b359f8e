//! What causes each problem, and what to do about it: whole sentences for whoever reads the page.

use crate::http::error::Code;

/// Cause and remedy.
pub(super) fn of(code: Code) -> (&'static str, &'static str) {
    match code.status().as_u16() {
        400 => of_request(code),
        404 | 405 | 406 | 408 | 413 | 414 | 415 | 431 => of_http(code),
        409 | 412 => of_conflict(code),
        422 => of_refusal(code),
        _ => of_node(code),
    }
}

fn of_request(code: Code) -> (&'static str, &'static str) {
    match code {
        Code::MalformedJson => (
            "The body ends too early, goes on after the value, or is not JSON at all.",
            "Send one JSON object. The detail says where reading stopped.",
        ),
        Code::UnknownField => (
            "A misspelt field, or one of another version. Unknown fields are refused because a typo must not weaken a request.",
            "The detail lists the fields there are.",
        ),
        Code::DuplicateField => (
            "The same name stands twice in one object, and which value is meant cannot be known.",
            "Send each field once.",
        ),
        Code::MissingField => (
            "A field without a default was left out.",
            "Add it; \"errors\" lists every field that is missing.",
        ),
        Code::UnknownParameter => (
            "A misspelt query parameter, or one that this path does not take.",
            "The detail lists the parameters there are.",
        ),
        Code::DuplicateParameter => (
            "The same query parameter stands twice, and which value is meant cannot be known.",
            "Send each parameter once.",
        ),
        Code::InvalidCursor => (
            "The cursor is damaged, or belongs to another list or to other filters.",
            "Send a next_cursor back unchanged, with the filters of the page it came from; or begin without one.",
        ),
        Code::UnsupportedSort => (
            "The list has no index in that order.",
            "\"allowed\" lists the orders there are.",
        ),
        Code::MalformedRequest => (
            "The body broke off before its end, or the request is not HTTP.",
            "Look at the client and at what stands between it and this node.",
        ),
        _ => (
            "A parameter, header or field has a value outside its grammar or bounds.",
            "\"errors\" names each place, what is wrong and, where they can be listed, the values that would do.",
        ),
    }
}

fn of_http(code: Code) -> (&'static str, &'static str) {
    match code {
        Code::MethodNotAllowed => (
            "The path exists and takes other methods.",
            "The Allow header lists the methods; /openapi.json describes them.",
        ),
        Code::NotAcceptable => (
            "The Accept header excludes every media type this path can answer in.",
            "\"available\" lists them; without an Accept header the first one is sent.",
        ),
        Code::UnsupportedMediaType => (
            "The Content-Type is missing or another one. It has to be named because browsers send undeclared bodies to anyone.",
            "Send Content-Type: application/json.",
        ),
        Code::RequestTimeout => (
            "The rest of the request did not arrive in time: a slow or broken connection.",
            "Send it again, faster or in smaller parts.",
        ),
        Code::BodyTooLarge => (
            "The body, or the command made of it, is larger than this path takes.",
            "\"limit\" names the bound in bytes: send less, or more requests.",
        ),
        Code::UriTooLong | Code::HeadTooLarge => (
            "Path and query, or all headers together, have more bytes than this node reads.",
            "Shorten them; the detail names the setting that is the bound.",
        ),
        Code::TooManyItems => (
            "The list in the body is longer than one command may be.",
            "\"limit\" names the bound: send several requests.",
        ),
        Code::LedgerNotFound => (
            "No ledger has this id at the index in the answer.",
            "Create it, or ask at level leader if it was created just now.",
        ),
        Code::AccountNotFound => (
            "No account has this id at the index in the answer.",
            "Create it, or ask at level leader if it was created just now.",
        ),
        Code::TransferNotFound => (
            "No transfer has this id at the index in the answer: it was never posted, nor refused for a reason of state.",
            "Asked at level leader, that is final for everything sent and answered before.",
        ),
        Code::IdempotencyKeyNotFound => (
            "No write was done under this key, or its time is over: keys are held for a day of log time at least.",
            "Asked at level leader, nothing sent and answered before was done under it; the write may be sent.",
        ),
        Code::KeyNotFound => (
            "The key does not exist at the index in the answer.",
            "Write it, or ask at level leader if it was written just now.",
        ),
        _ => (
            "The path is misspelt, or of another version of the API.",
            "/openapi.json lists every path, /errors every code.",
        ),
    }
}

fn of_conflict(code: Code) -> (&'static str, &'static str) {
    match code {
        Code::AlreadyInitialized => (
            "This node belongs to a cluster with other members than those listed.",
            "Nothing: GET /v1/cluster shows the members. A cluster is formed once.",
        ),
        Code::NoHeir => (
            "Leadership was to be handed over, and the other voters lag, or did not answer lately.",
            "Wait until GET /v1/cluster on the leader shows a voter with a small lag_entries and last_ack_ms.",
        ),
        Code::NodeIdUsed => (
            "A node id stands for one data directory for ever, because a node that forgot what it promised could vote twice.",
            "Start the node with an empty data directory and an id of next_node_id (GET /v1/cluster) or more.",
        ),
        Code::LastVoter => (
            "The member that is to lose its vote is the only one that has one.",
            "Give another member a vote first.",
        ),
        Code::MembershipChangeInProgress => (
            "A change of the members was begun and is not finished: by another request, or by a leader that died, whose work the \
             next one finishes.",
            "Send it again; GET /v1/cluster shows the members.",
        ),
        Code::IndexNotReached => (
            "The cursor is of a page that shows a later moment than this node has reached: another node served it.",
            "Ask again, or ask at level leader.",
        ),
        Code::PreconditionFailed => (
            "Somebody else wrote the key since it was read, or it exists or is missing against expectation.",
            "\"current\" is its modification index now: read it again, decide, and send the new tag in If-Match.",
        ),
        _ => (
            "The id was used before, with other fields. \"fields\" names those that differ.",
            "Choose another id for another thing; send the same fields to repeat the same one.",
        ),
    }
}

fn of_refusal(code: Code) -> (&'static str, &'static str) {
    match code {
        Code::RefusedLedgerNotFound => (
            "The account names a ledger that does not exist.",
            "Create the ledger first.",
        ),
        Code::AmountMustNotBeZero => (
            "The amount is 0, and a transfer moves something.",
            "Send at least 1 minor unit. The id stays free.",
        ),
        Code::AccountsMustDiffer => (
            "Debit and credit account are the same.",
            "Name two accounts. The id stays free.",
        ),
        Code::DebitAccountNotFound | Code::CreditAccountNotFound => (
            "The transfer names an account that did not exist when it was decided.",
            "Create the account and send the transfer under a new id: this one stays refused.",
        ),
        Code::LedgerMismatch => (
            "The two accounts belong to two ledgers, which may hold two assets.",
            "Move value between ledgers with a chain of linked transfers, one in each.",
        ),
        Code::AmountOverflow => (
            "A sum of debits or credits would pass 2^128 - 1.",
            "Use another account or a coarser scale.",
        ),
        Code::ExceedsCredits | Code::ExceedsDebits => (
            "The account has a limit, and the transfer would have broken it. The body has its sums at that moment.",
            "Fund the account and send the transfer under a new id: this one stays refused.",
        ),
        Code::ChainOpen => (
            "The last transfer of the request is linked to a next one that is not there.",
            "End the chain with a transfer that is not linked.",
        ),
        Code::ChainFailed => (
            "Linked transfers are posted together or not at all, and another one of the chain was refused.",
            "Look at the result of that other one.",
        ),
        Code::IdempotencyKeyReused => (
            "Another request, or the same with another body, was done under this idempotency key.",
            "Choose a new key for a new request. GET /v1/idempotency/{key} shows what came of the first one.",
        ),
        Code::MemberNotFound | Code::NotAVoter => (
            "The node that was named is no member of this cluster, or has no vote, and only voters lead and are replaced.",
            "GET /v1/cluster lists the members and which of them are voters.",
        ),
        Code::LearnerNotCaughtUp => (
            "The member does not answer, or lacks more of the log than it may when it gets a vote: as a voter it would hold the \
             others up.",
            "Wait until GET /v1/cluster on the leader shows a small lag_entries, and send it again.",
        ),
        Code::QuorumWouldBeLost => (
            "So few of the voters there would be answer that nothing could be written after the change.",
            "Bring the silent ones back or replace them first. With \"force\" it is done all the same.",
        ),
        Code::InvalidMembers => (
            "The list is empty, lacks this node, or names an id or an address twice.",
            "List every member once, with the addresses others reach it at.",
        ),
        Code::PeerInOtherCluster => (
            "A node that was named has been part of another cluster.",
            "Check the address; to use the node anyway, empty its data directory first.",
        ),
        _ => (
            "A node that was named does not run, cannot be reached at its peer address, or answers as another one.",
            "Start it, check the address, and send the same again.",
        ),
    }
}

fn of_node(code: Code) -> (&'static str, &'static str) {
    match code {
        Code::IdempotencyKeysFull => (
            "As many keys are held as may be, and none of them has had its time.",
            "Send the write later, or without a key if it carries an id that makes it safe to send twice.",
        ),
        Code::Overloaded => (
            "More is waiting than this node takes; the detail names the limit.",
            "Wait as Retry-After says, then send it again; send less at once, or larger batches.",
        ),
        Code::BackupInProgress => (
            "A node makes one backup at a time, because each keeps files on the disk that would be gone otherwise.",
            "Ask again when the other one has ended, or ask another node.",
        ),
        Code::DiskFull => (
            "The disk of the leader, or those of a majority, are nearly full; the detail says which and how much is left.",
            "Make room there: a node takes writes again by itself once it has it. Reads go on, and deletes as long as the detail says so.",
        ),
        Code::NoLeader => (
            "An election is going on, or the majority of the nodes is gone or out of reach.",
            "Try again. If it lasts, look at /readyz of every node. Reads at level follower go on.",
        ),
        Code::NotReady => (
            "The node is starting, is no member of a cluster yet, or its disk hangs.",
            "Ask another node; /readyz says what is missing here.",
        ),
        Code::ShuttingDown => (
            "The node was told to stop.",
            "Ask another node, or this one once it is started again.",
        ),
        Code::CommitTimeout => (
            "The write was handed over and no verdict came before the deadline, such as when the leader changed meanwhile.",
            "Send it again with the same id, or read where \"check\" points: what carries an id happens once.",
        ),
        Code::WriteTimeout => (
            "The deadline passed while the write waited for its turn.",
            "Send it again, with more time.",
        ),
        Code::ReadTimeout => (
            "No majority confirmed the leader in time, or this node has not applied enough yet.",
            "Ask again, with more time; or at level follower, if an older state will do.",
        ),
        _ => (
            "A fault of this node, such as a damaged or failing disk. The node's log names it beside the request id.",
            "Send it again to another node with the same id, and have an operator look at this one.",
        ),
    }
}
