//! Who belongs to the cluster, and changing that. Every change finds itself done when it is asked for again.

use serde::{Deserialize, Serialize};
use serde_json::json;

use super::ask::{Ask, Repeat};
use super::cluster::{NewMember, View};
use super::{Client, Error, Written, text};

const MEMBERS: &str = "/v1/cluster/members";

/// The request to add a node, which joins without a vote.
pub fn add_ask(member: &NewMember) -> Ask {
    Ask::post(MEMBERS, member, Repeat::ById)
}

/// The request to say where a member is reached.
pub fn move_member_ask(member: &NewMember) -> Ask {
    let place = json!({ "peer_addr": member.peer_addr, "client_url": member.client_url });
    let target = format!("{MEMBERS}/{}", member.id);
    Ask::put(target, place.to_string().into(), Repeat::ById)
        .header("content-type", "application/json")
}

/// The request to give a member a vote.
pub fn promote_ask(id: u64, terms: Terms) -> Ask {
    let target = format!("{MEMBERS}/{id}/promote");
    Ask::post(target, &terms, Repeat::ById)
}

/// The request to take a member's vote away.
pub fn demote_ask(id: u64, force: bool) -> Ask {
    let target = format!("{MEMBERS}/{id}/demote");
    Ask::post(target, &json!({ "force": force }), Repeat::ById)
}

/// The request to remove a member for good.
pub fn remove_ask(id: u64, force: bool) -> Ask {
    let forced = force.then_some("true");
    Ask::delete(format!("{MEMBERS}/{id}"), Repeat::ById).param("force", forced)
}

/// The request to put member `by`, which has no vote, in the place of voter `old`, which is removed for good.
pub fn replace_ask(old: u64, by: u64, terms: Terms) -> Ask {
    let target = format!("{MEMBERS}/{old}/replace");
    Ask::post(target, &Replacement { by, terms }, Repeat::ById)
}

#[derive(Serialize)]
struct Replacement {
    by: u64,
    #[serde(flatten)]
    terms: Terms,
}

/// On what terms a member gets a vote.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Terms {
    /// Entries of the log that it may lack; the server's default if nothing.
    #[serde(rename = "max_lag_entries", skip_serializing_if = "Option::is_none")]
    pub lag_max: Option<u32>,
    /// Even if it lacks more, or too few of the voters there would be answer.
    pub force: bool,
}

/// What a change of members gave.
#[derive(Clone, Debug, Deserialize)]
pub struct MembersChanged {
    /// `changed` now, or `unchanged` because it was so before.
    pub result: String,
    /// Log index of the change; nothing if nothing was changed.
    #[serde(default, with = "text::option")]
    pub membership_index: Option<u64>,
    /// The cluster as its leader sees it.
    #[serde(flatten)]
    pub view: View,
}

impl Client {
    /// Adds a node, which joins without a vote. Waits until it answers, as long as there is time.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn add_member(&self, member: &NewMember) -> Result<Written<MembersChanged>, Error> {
        self.write(&add_ask(member)).await
    }

    /// Says where a member is reached from now on.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn move_member(&self, member: &NewMember) -> Result<Written<MembersChanged>, Error> {
        self.write(&move_member_ask(member)).await
    }

    /// Gives a member a vote. Waits until it has caught up, as long as there is time.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn promote_member(
        &self,
        id: u64,
        terms: Terms,
    ) -> Result<Written<MembersChanged>, Error> {
        self.write(&promote_ask(id, terms)).await
    }

    /// Takes a member's vote away.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn demote_member(
        &self,
        id: u64,
        force: bool,
    ) -> Result<Written<MembersChanged>, Error> {
        self.write(&demote_ask(id, force)).await
    }

    /// Removes a member for good.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn remove_member(
        &self,
        id: u64,
        force: bool,
    ) -> Result<Written<MembersChanged>, Error> {
        self.write(&remove_ask(id, force)).await
    }

    /// Puts member `by`, which has no vote, in the place of voter `old`, which is removed for good. Waits until `by` has caught
    /// up, as long as there is time.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn replace_member(
        &self,
        old: u64,
        by: u64,
        terms: Terms,
    ) -> Result<Written<MembersChanged>, Error> {
        self.write(&replace_ask(old, by, terms)).await
    }
}
