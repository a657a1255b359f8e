//! `quorate node`: who belongs to the cluster.

use std::time::Duration;

use clap::{Args, Subcommand};
use serde_json::Value;

use super::Global;
use super::cluster::{best_view, member, members, render, tolerance};
use super::format::{Csv, Format};
use super::output::{Failure, note, print};
use crate::client::cluster::NewMember;
use crate::client::members::{
    Terms, add_ask, demote_ask, move_member_ask, promote_ask, remove_ask, replace_ask,
};
use crate::client::{Ask, Client};

/// How long a change may take: a node that gets a vote must catch up first.
const TIMEOUT: Duration = Duration::from_secs(300);

/// The members of the cluster.
#[derive(Debug, Subcommand)]
pub(super) enum Node {
    /// List the members, as the leader sees them.
    #[command(after_help = "Example:\n  quorate node list")]
    List,
    /// Add a running node: it joins without a vote and begins to catch up.
    #[command(after_help = "Example:
  quorate serve --node-id 4 --data-dir data/node4 --listen 127.0.0.1:7004 --peer-listen 127.0.0.1:7104 &
  quorate node add 4=127.0.0.1:7104,http://127.0.0.1:7004

Its id must be above all that were ever used, its data directory new. Repeating it does no harm.")]
    Add {
        /// Its id, the address of its peer listener, the URL of its client listener.
        #[arg(value_name = "ID=PEER,URL", value_parser = member)]
        member: NewMember,
    },
    /// Say where a member is reached from now on: it must answer there.
    #[command(after_help = "Example:\n  quorate node move 4=10.0.0.4:7104,http://10.0.0.4:7004")]
    Move {
        /// Its id, the address of its peer listener, the URL of its client listener.
        #[arg(value_name = "ID=PEER,URL", value_parser = member)]
        member: NewMember,
    },
    /// Give a member a vote, once it has caught up: waits for that.
    #[command(after_help = "Example:\n  quorate node promote 4")]
    Promote {
        /// The member.
        id: u64,
        #[command(flatten)]
        terms: VoteTerms,
    },
    /// Take a member's vote away; it stays and goes on following.
    #[command(after_help = "Example:\n  quorate node demote 4")]
    Demote {
        /// The member.
        id: u64,
        /// Even if too few of the voters left answer.
        #[arg(long)]
        force: bool,
    },
    /// Remove a member for good: it stops, and its id is never used again.
    #[command(after_help = "Example:\n  quorate node remove 4")]
    Remove {
        /// The member.
        id: u64,
        /// Even if too few of the voters left answer.
        #[arg(long)]
        force: bool,
    },
    /// Put a new node in the place of one that is dead, was wiped or shall go: adds it, waits until it has caught up, and
    /// exchanges the two in one change.
    #[command(after_help = "Example:
  quorate serve --node-id 4 --data-dir data/node4 --listen 127.0.0.1:7004 --peer-listen 127.0.0.1:7104 &
  quorate node replace 2 --with 4=127.0.0.1:7104,http://127.0.0.1:7004

At no time do fewer voters decide. Repeating it does no harm: it goes on where it was. Ends with 10
if the new node was added and the exchange failed.")]
    Replace {
        /// The member that goes for good.
        id: u64,
        /// The new node: its id, the address of its peer listener, the URL of its client listener.
        #[arg(long, value_name = "ID=PEER,URL", value_parser = member)]
        with: NewMember,
        #[command(flatten)]
        terms: VoteTerms,
    },
}

/// On what terms a member gets a vote.
#[derive(Clone, Copy, Debug, Args)]
pub(super) struct VoteTerms {
    /// Entries of the log that it may lack [default: 1024].
    #[arg(long, value_name = "ENTRIES")]
    max_lag: Option<u32>,
    /// Even if it lacks more, or too few of the voters there would be answer.
    #[arg(long)]
    force: bool,
}

impl From<VoteTerms> for Terms {
    fn from(terms: VoteTerms) -> Terms {
        Terms {
            lag_max: terms.max_lag,
            force: terms.force,
        }
    }
}

impl Node {
    /// Does it.
    pub(super) async fn run(self, global: &Global) -> Result<(), Failure> {
        let client = global.client()?;
        let mut options = global.options(TIMEOUT);
        // A change of voters takes two rounds, and a node that is asked who it is may be slow.
        options.attempt = options
            .attempt
            .max(Duration::from_secs(10))
            .min(options.timeout);
        let client = client.with(options);
        match self {
            Node::List => list(global, &client).await,
            Node::Add { member } => {
                let added = format!("node {} is a member, without a vote", member.id);
                change(global, &client, &add_ask(&member), &added).await
            }
            Node::Move { member } => {
                let moved = format!("node {} is reached at {}", member.id, member.peer_addr);
                change(global, &client, &move_member_ask(&member), &moved).await
            }
            Node::Promote { id, terms } => {
                let ask = promote_ask(id, terms.into());
                change(global, &client, &ask, &format!("node {id} has a vote")).await
            }
            Node::Demote { id, force } => {
                let ask = demote_ask(id, force);
                change(global, &client, &ask, &format!("node {id} has no vote")).await
            }
            Node::Remove { id, force } => {
                let ask = remove_ask(id, force);
                change(global, &client, &ask, &removed(id)).await
            }
            Node::Replace { id, with, terms } => {
                let added = global.ask_of(&client, &add_ask(&with)).await;
                added.map_err(|why| why.within(&format!("adding node {}", with.id)))?;
                note(&format!(
                    "node {} is a member, without a vote until it has caught up",
                    with.id
                ));
                let ask = replace_ask(id, with.id, terms.into());
                let done = format!("node {} has a vote; {}", with.id, removed(id));
                let changed = change(global, &client, &ask, &done).await;
                changed.map_err(|why| {
                    let what = format!(
                        "node {} is a member, but not in the place of node {id}",
                        with.id
                    );
                    why.within(&what).after_a_part()
                })
            }
        }
    }
}

fn removed(id: u64) -> String {
    format!("node {id} is removed for good: its data directory can be deleted")
}

async fn list(global: &Global, client: &Client) -> Result<(), Failure> {
    let view = best_view(global, client).await?;
    match global.output {
        Format::Json | Format::Jsonl => print(&format!("{view}\n")),
        Format::Csv => print(&Csv::default().rows(members(&view))),
        Format::Table => {
            print(&render(&view));
            if let Some(next) = view["next_node_id"].as_u64() {
                note(&format!("a new node takes id {next} or a higher one"));
            }
        }
    }
    Ok(())
}

/// Asks for a change and says what is so after it, and what the cluster can lose now.
async fn change(global: &Global, client: &Client, ask: &Ask, done: &str) -> Result<(), Failure> {
    let answer = global.ask_of(client, ask).await?;
    if global.output != Format::Table {
        global.print(&answer);
        return Ok(());
    }
    let view: Value = answer.json();
    let already = match view["result"] == "unchanged" {
        true => " (as it was)",
        false => "",
    };
    print(&format!("{done}{already}\n"));
    note(&tolerance(&view));
    Ok(())
}
