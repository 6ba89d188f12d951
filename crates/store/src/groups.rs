//! Groups: several people under one name, so that a budget can be theirs.

use stockade_domain::{
    Timestamp,
    ids::{GroupId, UserId},
};

use crate::{
    Result, StoreError, Tx,
    sql::{Row, ask, statements},
};

statements! {
    ADD_GROUP = "INSERT INTO groups (id, name, created_at) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING";
    WHICH_GROUPS_ARE_THERE = "SELECT id, name, created_at FROM groups ORDER BY name LIMIT $1";
    WHICH_GROUP_IS_THIS = "SELECT id, name, created_at FROM groups WHERE id = $1";
    WHICH_GROUP_HAS_THIS_NAME = "SELECT id, name, created_at FROM groups WHERE name = $1";
    WHO_IS_IN_THIS_GROUP = "SELECT m.member, u.name FROM group_members m JOIN users u ON u.id = m.member \
                            WHERE m.team = $1 ORDER BY u.name";
    JOIN_GROUP = "INSERT INTO group_members (team, member, added_at) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING";
    LEAVE_GROUP = "DELETE FROM group_members WHERE team = $1 AND member = $2";
}

/// The most groups.
pub const MAX_GROUPS: u32 = 1_000;

/// Several people under one name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    /// Which.
    pub id: GroupId,
    /// Its name; unique.
    pub name: String,
    /// Who is in it, with their names, by name.
    pub members: Vec<(UserId, String)>,
    /// Since when.
    pub created_at: Timestamp,
}

/// Adds a group with nobody in it; the name must be free.
pub async fn add(tx: &mut Tx, id: GroupId, name: &str, now: Timestamp) -> Result<Group> {
    if list(tx).await?.len() >= MAX_GROUPS as usize {
        return Err(StoreError::Invalid { what: "group", why: format!("there are {MAX_GROUPS}, which is the most") });
    }
    if tx.run(ask!(ADD_GROUP, id, name, now)).await? == 0 {
        return Err(StoreError::exists("group", name));
    }
    get(tx, id).await
}

/// One group.
pub async fn get(tx: &mut Tx, id: GroupId) -> Result<Group> {
    let row = tx.maybe(ask!(WHICH_GROUP_IS_THIS, id)).await?;
    read(tx, &row.ok_or_else(|| StoreError::not_found("group", id))?).await
}

/// One group by its name.
pub async fn by_name(tx: &mut Tx, name: &str) -> Result<Group> {
    let row = tx.maybe(ask!(WHICH_GROUP_HAS_THIS_NAME, name)).await?;
    read(tx, &row.ok_or_else(|| StoreError::not_found("group", name))?).await
}

/// All groups, by name.
pub async fn list(tx: &mut Tx) -> Result<Vec<Group>> {
    let rows = tx.all(ask!(WHICH_GROUPS_ARE_THERE, MAX_GROUPS)).await?;
    let mut groups = Vec::with_capacity(rows.len());
    for row in &rows {
        groups.push(read(tx, row).await?);
    }
    Ok(groups)
}

/// Puts a person into a group. Repeatable. Money that is leased already stays bound as it was.
pub async fn join(tx: &mut Tx, id: GroupId, member: UserId, now: Timestamp) -> Result<Group> {
    tx.run(ask!(JOIN_GROUP, id, member, now)).await?;
    get(tx, id).await
}

/// Takes a person out of a group. Repeatable.
pub async fn leave(tx: &mut Tx, id: GroupId, member: UserId) -> Result<Group> {
    tx.run(ask!(LEAVE_GROUP, id, member)).await?;
    get(tx, id).await
}

async fn read(tx: &mut Tx, row: &Row) -> Result<Group> {
    let id: GroupId = row.word("id")?;
    let members = tx.all(ask!(WHO_IS_IN_THIS_GROUP, id)).await?;
    Ok(Group {
        id,
        name: row.text("name")?,
        members: members.iter().map(|row| Ok((row.word("member")?, row.text("name")?))).collect::<Result<_>>()?,
        created_at: row.at("created_at")?,
    })
}
