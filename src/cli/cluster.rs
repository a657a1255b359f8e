//! `quorate init`, `status` and `leader`.

use std::fmt::Write as _;
use std::time::Duration;

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::Global;
use super::format::{Csv, Format, show, table};
use super::output::{Exit, Failure, print};
use crate::client::cluster::{NewMember, init_ask, move_ask, view_ask};
use crate::client::{Client, authority};

/// A member silent for longer counts as unreachable.
const SILENCE_MAX_MS: u64 = 5000;

/// Form a cluster of running nodes, once.
#[derive(Debug, Args)]
#[command(after_help = "Example:
  quorate init --member 1=127.0.0.1:7101,http://127.0.0.1:7001 \\
               --member 2=127.0.0.1:7102,http://127.0.0.1:7002 \\
               --member 3=127.0.0.1:7103,http://127.0.0.1:7003

Asks the first member unless --endpoint names another. Repeating it does no harm: it succeeds if the cluster was
formed with the same members. It waits for members that are not up yet.")]
pub(super) struct Init {
    /// A member: its id, the address of its peer listener, the URL of its client listener.
    #[arg(long = "member", required = true, value_name = "ID=PEER,URL", value_parser = member)]
    members: Vec<NewMember>,
}

pub(super) fn member(text: &str) -> Result<NewMember, String> {
    let parts = text
        .split_once('=')
        .and_then(|(id, rest)| Some((id, rest.split_once(',')?)));
    let Some((id, (peer_addr, client_url))) = parts else {
        return Err("a member is ID=HOST:PORT,URL".to_owned());
    };
    let id = id.parse().map_err(|_| format!("{id:?} is not a node id"))?;
    authority(client_url)?;
    Ok(NewMember {
        id,
        peer_addr: peer_addr.to_owned(),
        client_url: client_url.to_owned(),
    })
}

impl Init {
    /// Forms the cluster.
    pub(super) async fn run(self, global: &Global) -> Result<(), Failure> {
        let endpoints = match global.endpoints.as_slice() {
            [] => vec![self.members[0].client_url.clone()],
            named => named.to_vec(),
        };
        let mut options = global.options(Duration::from_secs(60));
        // Members are asked one after the other: cut short, an attempt would be for nothing.
        options.attempt = options.timeout;
        let client = Client::new(&endpoints, options).map_err(Failure::usage)?;
        let answer = global.ask_of(&client, &init_ask(&self.members)).await?;
        let body = answer.json();
        if global.output != Format::Table {
            show(global.output, &body);
            return Ok(());
        }
        let done = match body["result"] == "formed" {
            true => "formed",
            false => "was formed before",
        };
        let id = body["cluster_id"].as_str().unwrap_or("?");
        let count = self.members.len();
        print(&format!("cluster {id} {done}: {count} members\n"));
        Ok(())
    }
}

/// The leader.
#[derive(Debug, Subcommand)]
pub(super) enum Leader {
    /// Show who leads.
    #[command(after_help = "Example:\n  quorate leader show")]
    Show,
    /// Have another voter lead, and wait until it does.
    #[command(
        after_help = "Examples:\n  quorate leader transfer\n  quorate leader transfer --to 2"
    )]
    Transfer {
        /// Id of the node [default: the one that has most of the log].
        #[arg(long, value_name = "NODE")]
        to: Option<u64>,
    },
}

impl Leader {
    /// Does it.
    pub(super) async fn run(self, global: &Global) -> Result<(), Failure> {
        match self {
            Leader::Show => {
                let view = global.ask(&view_ask()).await?.json();
                if view["leader"].is_null() {
                    return Err(Failure::new(Exit::Degraded, "no leader is known"));
                }
                show(
                    global.output,
                    &json!({ "leader": view["leader"], "term": view["term"] }),
                );
                Ok(())
            }
            Leader::Transfer { to } => global.write(&move_ask(to)).await,
        }
    }
}

/// Shows the cluster as its leader sees it; a failure if it is degraded.
pub(super) async fn status(global: &Global) -> Result<(), Failure> {
    let client = global.client()?;
    let view = best_view(global, &client).await?;
    let degraded = problems(&view);
    match global.output {
        Format::Json | Format::Jsonl => print(&format!("{view}\n")),
        Format::Csv => print(&Csv::default().rows(members(&view))),
        Format::Table => print(&render(&view)),
    }
    match degraded.is_empty() {
        true => Ok(()),
        false => {
            let why = format!("degraded: {}", degraded.join("; "));
            Err(Failure::new(Exit::Degraded, why))
        }
    }
}

/// The leader's view if it can be had, else the one of whoever answers.
pub(super) async fn best_view(global: &Global, client: &Client) -> Result<Value, Failure> {
    let ask = view_ask();
    let view_of = async |address: &str| -> Result<Value, String> {
        global.explain(address, &ask);
        let answer = client.ask_one(address, &ask).await;
        let answer = answer.map_err(|error| error.to_string())?;
        match answer.status.as_u16() {
            200 if answer.header("quorate-served-by").is_some() => Ok(answer.json()),
            status => Err(format!(
                "{address}: HTTP {status}, and no view of a cluster"
            )),
        }
    };
    let (mut best, mut refused) = (None, Vec::new());
    for endpoint in client.endpoints() {
        match view_of(endpoint).await {
            Ok(view) if view["role"] == "leader" => return Ok(view),
            Ok(view) => best = Some(view),
            Err(why) => refused.push(why),
        }
    }
    let Some(view) = best else {
        return Err(Failure::new(Exit::Unavailable, refused.join("; ")));
    };
    if let Some(Ok(leader)) = view["leader"]["client_url"].as_str().map(authority)
        && let Ok(led) = view_of(&leader).await
        && led["role"] == "leader"
    {
        return Ok(led);
    }
    Ok(view)
}

pub(super) fn members(view: &Value) -> &[Value] {
    view["members"].as_array().map_or(&[], Vec::as_slice)
}

/// What is wrong with a cluster, in words.
fn problems(view: &Value) -> Vec<String> {
    let mut found = Vec::new();
    if members(view).is_empty() {
        found.push("no cluster is formed".to_owned());
    }
    if let Some(fault) = view["fault"].as_str() {
        found.push(format!("n{} failed: {fault}", view["node"]));
    }
    if let Some(why) = view["removed"].as_str() {
        found.push(why.to_owned());
    }
    if view["role"] != "leader" {
        found.push("no leader answers".to_owned());
        return found;
    }
    if view["quorum_ack_ms"]
        .as_u64()
        .is_some_and(|age| age > SILENCE_MAX_MS)
    {
        found.push("no quorum acknowledges the leader".to_owned());
    }
    if let Some(why) = view["writes_refused"].as_str() {
        found.push(format!("writes are refused: {why}"));
    }
    let silent = members(view)
        .iter()
        .filter(|member| !is_heard(view, member));
    found.extend(silent.map(|member| format!("n{} is unreachable", member["id"])));
    found
}

/// Whether the leader whose view this is heard of a member lately.
fn is_heard(view: &Value, member: &Value) -> bool {
    member["id"] == view["node"]
        || member["last_ack_ms"]
            .as_u64()
            .is_some_and(|age| age <= SILENCE_MAX_MS)
}

/// How many voters there are, how many answer, and how many more may go.
pub(super) fn tolerance(view: &Value) -> String {
    let voters = members(view)
        .iter()
        .filter(|member| member["role"] == "voter");
    let (heard, silent): (Vec<_>, Vec<_>) = voters.partition(|member| is_heard(view, member));
    let (heard, count) = (heard.len(), heard.len() + silent.len());
    let quorum = usize::try_from(view["quorum"].as_u64().unwrap_or(0)).unwrap_or(usize::MAX);
    match heard.checked_sub(quorum) {
        Some(spare) => format!("can lose {spare} more of {count}"),
        None => format!("no majority: {heard} of {count} answer, {quorum} are needed"),
    }
}

/// What a member is doing, as far as the node knows whose view this is.
fn state(view: &Value, member: &Value) -> String {
    let own = member["id"] == view["node"];
    let snapshot = match own {
        true => incoming(&view["receiving_snapshot"]),
        false => member["snapshot_percent"].as_u64(),
    };
    let word = match (view["role"] == "leader", own) {
        (true, false) if !is_heard(view, member) => "unreachable",
        _ if let Some(percent) = snapshot => return format!("snapshot {percent}%"),
        (_, true) => "-",
        (false, _) => "?",
        (true, false) => "replicating",
    };
    word.to_owned()
}

/// How much of a snapshot is there that a node is getting, in per cent.
fn incoming(snapshot: &Value) -> Option<u64> {
    let bytes = |name: &str| snapshot[name].as_str()?.parse::<u64>().ok();
    let (done, total) = (bytes("done_bytes")?, bytes("total_bytes")?);
    Some(done.saturating_mul(100) / total.max(1))
}

/// The cluster for people.
pub(super) fn render(view: &Value) -> String {
    let text = |value: &Value| match value {
        Value::Null => "-".to_owned(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    let leader = match &view["leader"]["id"] {
        Value::Null => "none".to_owned(),
        id => format!("n{id}"),
    };
    let leads = view["role"] == "leader";
    let mut out = format!(
        "cluster {}   term {}   leader {leader}   as seen by n{}",
        text(&view["cluster_id"]),
        text(&view["term"]),
        view["node"]
    );
    // In the first one, nobody needs to know that there are any.
    if let Some(epoch) = view["epoch"].as_u64().filter(|epoch| *epoch > 1) {
        let _ = write!(out, "   epoch {epoch}");
    }
    if leads {
        let _ = write!(out, "   {}", tolerance(view));
    }
    if view["changing"] == true {
        out.push_str("   voters are being changed");
    }
    out.push('\n');
    let rows: Vec<_> = members(view)
        .iter()
        .map(|member| {
            let role = if member["id"] == view["leader"]["id"] {
                "leader"
            } else {
                ""
            };
            let ack = member["last_ack_ms"]
                .as_u64()
                .map_or("-".to_owned(), |ms| format!("{ms}ms"));
            vec![
                format!("n{}", member["id"]),
                if role.is_empty() {
                    text(&member["role"])
                } else {
                    role.to_owned()
                },
                state(view, member),
                text(&member["matched_index"]),
                text(&member["lag_entries"]),
                ack,
                text(&member["client_url"]),
            ]
        })
        .collect();
    out + &table(
        &["NODE", "ROLE", "STATE", "MATCHED", "LAG", "LAST ACK", "URL"],
        &rows,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn view(third_ack_ms: Option<u64>) -> Value {
        let member = |id: u64, ack: Option<u64>| {
            json!({ "id": id, "role": "voter", "client_url": "http://x:1", "matched_index": "7",
                    "lag_entries": "0", "last_ack_ms": ack })
        };
        json!({
            "cluster_id": "c", "node": 1, "role": "leader", "term": "3", "quorum": 2,
            "leader": { "id": 1, "client_url": "http://x:1" }, "quorum_ack_ms": 3, "fault": null,
            "members": [member(1, None), member(2, Some(10)), member(3, third_ack_ms)],
        })
    }

    #[test]
    fn a_member_is_an_id_an_address_and_a_url() {
        let expected = NewMember {
            id: 2,
            peer_addr: "127.0.0.1:7102".to_owned(),
            client_url: "http://127.0.0.1:7002".to_owned(),
        };
        assert_eq!(
            member("2=127.0.0.1:7102,http://127.0.0.1:7002"),
            Ok(expected)
        );
        for bad in ["2", "2=a", "x=a:1,http://a:1", "2=a:1,https://a:1"] {
            assert!(member(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_silent_member_degrades_a_cluster() {
        assert!(problems(&view(Some(20))).is_empty());
        assert!(render(&view(Some(20))).contains("can lose 1 more of 3"));
        for silent in [Some(SILENCE_MAX_MS + 1), None] {
            assert_eq!(problems(&view(silent)), ["n3 is unreachable"]);
            let shown = render(&view(silent));
            assert!(shown.contains("can lose 0 more of 3"), "{shown}");
            assert!(shown.contains("unreachable"), "{shown}");
        }
    }

    #[test]
    fn a_cluster_that_takes_no_writes_is_degraded() {
        let mut view = view(Some(20));
        view["writes_refused"] = "the disk of node 1 is full".into();
        assert_eq!(
            problems(&view),
            ["writes are refused: the disk of node 1 is full"]
        );
        view["writes_refused"] = Value::Null;
        assert!(problems(&view).is_empty());
    }

    #[test]
    fn how_much_of_a_snapshot_a_member_has_is_shown() {
        let mut led = view(Some(20));
        led["members"][2]["snapshot_percent"] = 43.into();
        assert!(render(&led).contains("snapshot 43%"), "{}", render(&led));
        led["members"][2]["last_ack_ms"] = Value::Null;
        assert!(!render(&led).contains("snapshot"), "{}", render(&led));
        let mut own = view(Some(20));
        own["role"] = "follower".into();
        own["node"] = 3.into();
        own["receiving_snapshot"] =
            json!({ "from": 1, "done_bytes": "430", "total_bytes": "1000" });
        assert!(render(&own).contains("snapshot 43%"), "{}", render(&own));
    }

    #[test]
    fn a_leader_alone_has_no_majority() {
        let mut view = view(None);
        view["members"][1]["last_ack_ms"] = Value::Null;
        let shown = render(&view);
        assert!(
            shown.contains("no majority: 1 of 3 answer, 2 are needed"),
            "{shown}"
        );
    }

    #[test]
    fn a_view_without_a_leader_is_degraded() {
        let mut follower = view(Some(1));
        follower["role"] = "follower".into();
        assert_eq!(problems(&follower), ["no leader answers"]);
        assert!(!problems(&json!({ "members": [] })).is_empty());
    }
}
