//! Registered connections, the organizations they show, and who claims what.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use rusqlite::{Connection, OptionalExtension, params};
use serde::{Deserialize, Serialize};

use super::{StoreError, snapshots};
use crate::model::{ConnectionId, Micros, OrganizationId, SECOND, is_guid};

/// A registered portal account, as the state knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConnectionRow {
    pub id: ConnectionId,
    pub site: String,
    /// The unit of ownership; always 0 with one process.
    pub shard: i64,
    /// Rises when another process takes over; [`super::outbox::append`] is fenced by it.
    pub epoch: i64,
    /// The last number given to an entry of any lane.
    pub head: i64,
    /// Its own organization, once discovered.
    pub organization_id: Option<OrganizationId>,
    /// When the portal was first heard, on the portal's time.
    pub first_contact: Option<Micros>,
    /// How far the portal's time was ahead of our clock when rows were last stored.
    pub clock_offset: Option<Micros>,
}

impl ConnectionRow {
    /// The portal's time when our clock says `ours`, as far as the state knows.
    pub fn portal_time(&self, ours: Micros) -> Micros {
        ours.saturating_add(self.clock_offset.unwrap_or(0))
    }
}

const COLUMNS: &str = "id, site, shard, epoch, head, organization_id, first_contact, clock_offset";

fn read(row: &rusqlite::Row<'_>) -> rusqlite::Result<ConnectionRow> {
    Ok(ConnectionRow {
        id: row.get(0)?,
        site: row.get(1)?,
        shard: row.get(2)?,
        epoch: row.get(3)?,
        head: row.get(4)?,
        organization_id: row.get::<_, Option<String>>(5)?.map(OrganizationId::from),
        first_contact: row.get(6)?,
        clock_offset: row.get(7)?,
    })
}

/// Retires the connections of sites that are configured no more: what they claimed is free for the next site that
/// reads it, which goes on from what was told of it. A retired connection has a negative epoch until its site is
/// registered again. To be called before any stream of another site runs.
pub fn retire_all_but(db: &Connection, sites: &[&str]) -> Result<(), StoreError> {
    for connection in list(db)?.iter().filter(|one| one.epoch > 0 && !sites.contains(&one.site.as_str())) {
        db.execute("UPDATE connection SET epoch = -epoch WHERE id = ?1", [connection.id])?;
        let claims = db.execute("DELETE FROM claim WHERE connection_id = ?1", [connection.id])?;
        let site = &connection.site;
        tracing::warn!(
            site,
            claims,
            "the site is configured no more: its organizations go to the next site that reads them"
        );
    }
    Ok(())
}

/// Under which labels sinks may want what the sites that are configured no more have still to deliver, by the label
/// that they had: a site that was renamed is its heir's. None for one of which nobody knows that yet, since a site that
/// may be it was not discovered.
pub fn heirs(db: &Connection) -> Result<HashMap<String, Option<Vec<String>>>, StoreError> {
    let all = list(db)?;
    let (living, retired): (Vec<_>, Vec<_>) = all.iter().partition(|one| one.epoch > 0);
    let heirs = retired.into_iter().map(|gone| {
        let Some(own) = &gone.organization_id else { return (gone.site.clone(), Some(Vec::new())) };
        let heirs = living.iter().filter(|one| one.organization_id.as_ref() == Some(own));
        let heirs: Vec<String> = heirs.map(|one| one.site.clone()).collect();
        let undecided = heirs.is_empty() && living.iter().any(|one| one.organization_id.is_none());
        (gone.site.clone(), (!undecided).then_some(heirs))
    });
    Ok(heirs.collect())
}

/// Lets a connection without streams go on where a retired one of the same own organization ended: a site that was
/// renamed. Its streams, rows and organizations pass over; what it has not delivered yet stays its own. Answers
/// the name that the site had. Where another site reads the same organizations nothing passes over, since what the
/// retired one claimed may be that one's by now.
pub fn inherit(
    db: &Connection,
    id: ConnectionId,
    own: &OrganizationId,
) -> Result<Option<String>, StoreError> {
    let find = "SELECT retired.id, retired.site FROM connection retired
         WHERE retired.epoch < 0 AND retired.organization_id = ?2
           AND EXISTS (SELECT 1 FROM stream WHERE connection_id = retired.id)
           AND NOT EXISTS (SELECT 1 FROM stream WHERE connection_id = ?1)
           AND NOT EXISTS (
             SELECT 1 FROM organization theirs
             JOIN organization other ON other.organization_id = theirs.organization_id
             JOIN connection reader ON reader.id = other.connection_id
             WHERE theirs.connection_id = retired.id AND reader.epoch > 0 AND reader.id <> ?1)
         ORDER BY retired.id DESC LIMIT 1";
    let found: Option<(ConnectionId, String)> =
        db.query_row(find, params![id, own.as_str()], |row| Ok((row.get(0)?, row.get(1)?))).optional()?;
    let Some((retired, site)) = found else { return Ok(None) };
    db.execute("DELETE FROM organization WHERE connection_id = ?1", [id])?;
    for table in ["organization", "stream", "seen_set", "owed", "owed_total"] {
        db.execute(
            &format!("UPDATE {table} SET connection_id = ?1 WHERE connection_id = ?2"),
            [id, retired],
        )?;
    }
    db.execute(
        "UPDATE OR IGNORE dead_letter SET connection_id = ?1 WHERE connection_id = ?2 AND sink IS NULL",
        [id, retired],
    )?;
    // What is not delivered yet goes by the names of its organizations.
    db.execute(
        "INSERT INTO organization (connection_id, organization_id, name, slug, first_seen)
         SELECT ?2, organization_id, name, slug, first_seen FROM organization WHERE connection_id = ?1",
        [id, retired],
    )?;
    db.execute(
        // Numbers go on, so that a later entry of a thing never has a lower one.
        "UPDATE connection SET (first_contact, clock_offset, head) =
           (SELECT first_contact, clock_offset, max(head, connection.head) FROM connection retired
            WHERE id = ?2) WHERE id = ?1",
        [id, retired],
    )?;
    Ok(Some(site))
}

/// The connection of a site, entered at first sight.
pub fn register(db: &Connection, site: &str) -> Result<ConnectionRow, StoreError> {
    let enter = "INSERT INTO connection (site, shard) VALUES (?1, 0)
         ON CONFLICT (site) DO UPDATE SET epoch = abs(epoch)";
    db.prepare_cached(enter)?.execute([site])?;
    let get = format!("SELECT {COLUMNS} FROM connection WHERE site = ?1");
    Ok(db.prepare_cached(&get)?.query_row([site], read)?)
}

/// Every connection ever registered, in the order of registration.
pub fn list(db: &Connection) -> Result<Vec<ConnectionRow>, StoreError> {
    let get = format!("SELECT {COLUMNS} FROM connection ORDER BY id");
    Ok(db.prepare_cached(&get)?.query_map([], read)?.collect::<Result<_, _>>()?)
}

/// Remembers the connection's own organization.
pub fn set_organization(
    db: &Connection,
    id: ConnectionId,
    organization: &OrganizationId,
) -> Result<(), StoreError> {
    db.prepare_cached("UPDATE connection SET organization_id = ?2 WHERE id = ?1")?
        .execute(params![id, organization.as_str()])?;
    Ok(())
}

/// Remembers when the portal was first heard; the first answer stays.
pub fn set_first_contact(db: &Connection, id: ConnectionId, at: Micros) -> Result<(), StoreError> {
    db.prepare_cached("UPDATE connection SET first_contact = ifnull(first_contact, ?2) WHERE id = ?1")?
        .execute(params![id, at])?;
    Ok(())
}

/// Remembers the portal's time at a moment of our clock, so that ages are right while nobody can ask it.
/// The second that its `Date` header leaves open is no reason to write.
pub fn set_clock(db: &Connection, id: ConnectionId, portal: Micros, ours: Micros) -> Result<(), StoreError> {
    db.prepare_cached(
        "UPDATE connection SET clock_offset = ?2 WHERE id = ?1 AND ifnull(abs(clock_offset - ?2) > ?3, 1)",
    )?
    .execute(params![id, portal - ours, SECOND])?;
    Ok(())
}

/// What is stored of an organization within a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KnownOrganization {
    /// Its short key.
    pub key: i64,
    /// As the portal spelled it last.
    pub name: Option<String>,
    /// A name that is fit for files.
    pub slug: String,
}

/// When rows of an organization were first seen, by its key.
pub fn first_seen(db: &Connection, organization: i64) -> Result<Option<Micros>, StoreError> {
    let first = db
        .prepare_cached("SELECT first_seen FROM organization WHERE id = ?1")?
        .query_row([organization], |row| row.get(0))
        .optional()?;
    Ok(first)
}

/// What is known of an organization within a connection, if it was ever seen there.
pub fn known_organization(
    db: &Connection,
    connection: ConnectionId,
    organization: &OrganizationId,
) -> Result<Option<KnownOrganization>, StoreError> {
    let get = "SELECT id, name, slug FROM organization WHERE connection_id = ?1 AND organization_id = ?2";
    let read = |row: &rusqlite::Row<'_>| {
        Ok(KnownOrganization { key: row.get(0)?, name: row.get(1)?, slug: row.get(2)? })
    };
    Ok(db.prepare_cached(get)?.query_row(params![connection, organization.as_str()], read).optional()?)
}

/// The organizations of a connection that were ever named, by the names that they had last.
pub fn named_organizations(
    db: &Connection,
    connection: ConnectionId,
) -> Result<Vec<(OrganizationId, String)>, StoreError> {
    let get = "SELECT organization_id, name FROM organization WHERE connection_id = ?1 AND name IS NOT NULL";
    let mut rows = db.prepare_cached(get)?;
    let rows = rows
        .query_map([connection], |row| Ok((OrganizationId::from(row.get::<_, String>(0)?), row.get(1)?)))?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// The short key of an organization within a connection, entered at first sight. A new name is taken
/// over; the slug stays what it was, since files are named by it.
pub fn organization(
    db: &Connection,
    connection: ConnectionId,
    organization: &OrganizationId,
    name: Option<&str>,
    now: Micros,
) -> Result<i64, StoreError> {
    // Rows that name no organization are not those of the first one that gives its name alone.
    let name = name.filter(|_| !organization.is_none());
    if let Some(known) = known_organization(db, connection, organization)? {
        if name.is_some() && name != known.name.as_deref() {
            db.prepare_cached("UPDATE organization SET name = ?2 WHERE id = ?1")?
                .execute(params![known.key, name])?;
        }
        return Ok(known.key);
    }
    let slug = free_slug(db, connection, &slug(name.unwrap_or_default(), organization))?;
    let mut insert = db.prepare_cached(
        "INSERT INTO organization (connection_id, organization_id, name, slug, first_seen)
         VALUES (?1, ?2, ?3, ?4, ?5) RETURNING id",
    )?;
    Ok(insert.query_row(params![connection, organization.as_str(), name, slug, now], |row| row.get(0))?)
}

/// The organizations of a connection that have an id.
pub fn organizations(db: &Connection, connection: ConnectionId) -> Result<Vec<OrganizationId>, StoreError> {
    let mut ids = db.prepare_cached(
        "SELECT organization_id FROM organization WHERE connection_id = ?1 AND organization_id <> '' ORDER BY 1",
    )?;
    let ids = ids.query_map([connection], |row| Ok(OrganizationId::from(row.get::<_, String>(0)?)))?;
    Ok(ids.collect::<Result<_, _>>()?)
}

/// The ids of those organizations, of any connection, that are named by their id, name or short name, all in lower
/// case; or the first word that names none. An id may come to be known later.
pub fn ids_of_organizations(
    db: &Connection,
    named: &[String],
) -> Result<Result<HashSet<String>, String>, StoreError> {
    let mut find = db.prepare_cached(
        "SELECT organization_id FROM organization WHERE organization_id = ?1 OR slug = ?1 OR lower(name) = ?1",
    )?;
    let mut ids = HashSet::new();
    for word in named {
        let found: HashSet<String> = find.query_map([word], |row| row.get(0))?.collect::<Result<_, _>>()?;
        if found.is_empty() && !is_guid(word) {
            return Ok(Err(word.clone()));
        }
        ids.extend(found);
        ids.insert(word.clone());
    }
    Ok(Ok(ids))
}

/// When the newest organization of a connection was first seen, on the portal's time.
pub fn newest_organization(db: &Connection, connection: ConnectionId) -> Result<Option<Micros>, StoreError> {
    Ok(db
        .prepare_cached("SELECT max(first_seen) FROM organization WHERE connection_id = ?1")?
        .query_row([connection], |row| row.get(0))?)
}

/// Lower-case ASCII letters, digits and single hyphens, fit for a file name; from the id when the
/// name has none of them, `none` for rows without an organization.
fn slug(name: &str, organization: &OrganizationId) -> String {
    const LONGEST: usize = 48;
    [name, organization.as_str()]
        .into_iter()
        .map(|text| {
            let mut slug = String::new();
            for letter in text.chars().take(4 * LONGEST) {
                if letter.is_ascii_alphanumeric() {
                    slug.push(letter.to_ascii_lowercase());
                } else if !slug.is_empty() && !slug.ends_with('-') {
                    slug.push('-');
                }
            }
            slug.truncate(LONGEST);
            slug.trim_end_matches('-').to_owned()
        })
        .find(|slug| !slug.is_empty())
        .unwrap_or_else(|| "none".to_owned())
}

fn free_slug(db: &Connection, connection: ConnectionId, wanted: &str) -> Result<String, StoreError> {
    let mut taken = db.prepare_cached("SELECT 1 FROM organization WHERE connection_id = ?1 AND slug = ?2")?;
    let mut slug = wanted.to_owned();
    let mut next = 2_u64;
    while taken.exists(params![connection, slug])? {
        slug = format!("{wanted}-{next}");
        next += 1;
    }
    Ok(slug)
}

/// A source of an organization that a site reads and another one claimed first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClaimedElsewhere {
    pub organization: String,
    pub source: String,
    /// The site that delivers it.
    pub claimed_by: String,
}

/// What each site reads and only counts, since another site delivers it.
pub fn claimed_elsewhere(db: &Connection) -> Result<BTreeMap<String, Vec<ClaimedElsewhere>>, StoreError> {
    let mut rows = db.prepare_cached(
        "SELECT reader.site, c.organization_id, c.source, owner.site FROM claim c
         JOIN connection owner ON owner.id = c.connection_id
         JOIN organization o ON o.organization_id = c.organization_id AND o.connection_id <> c.connection_id
         JOIN connection reader ON reader.id = o.connection_id
         WHERE EXISTS (SELECT 1 FROM seen_set s WHERE s.connection_id = reader.id AND s.source = c.source)
         ORDER BY 1, 2, 3",
    )?;
    let mut found: BTreeMap<String, Vec<ClaimedElsewhere>> = BTreeMap::new();
    let rows = rows.query_map([], |row| {
        let claim =
            ClaimedElsewhere { organization: row.get(1)?, source: row.get(2)?, claimed_by: row.get(3)? };
        Ok((row.get(0)?, claim))
    })?;
    for row in rows {
        let (site, claim) = row?;
        found.entry(site).or_default().push(claim);
    }
    Ok(found)
}

/// Claims a source of an organization for a connection that knows it, if nobody has: it goes on from what was told of
/// it before. Answers whose it is: the first connection to read it.
pub fn claim(
    db: &Connection,
    organization: &OrganizationId,
    source: &str,
    connection: ConnectionId,
) -> Result<ConnectionId, StoreError> {
    if let Some(owner) = claimed_by(db, organization, source)? {
        return Ok(owner);
    }
    db.prepare_cached("INSERT INTO claim (organization_id, source, connection_id) VALUES (?1, ?2, ?3)")?
        .execute(params![organization.as_str(), source, connection])?;
    snapshots::take_over(db, connection, organization, source)?;
    Ok(connection)
}

/// Who claims a source of an organization.
pub fn claimed_by(
    db: &Connection,
    organization: &OrganizationId,
    source: &str,
) -> Result<Option<ConnectionId>, StoreError> {
    let mut owner =
        db.prepare_cached("SELECT connection_id FROM claim WHERE organization_id = ?1 AND source = ?2")?;
    Ok(owner.query_row(params![organization.as_str(), source], |row| row.get(0)).optional()?)
}

/// Gives free what a connection claims of organizations that it does not ask for any more, so that the next one that
/// reads them tells of them. Answers those.
pub fn release_all_but(
    db: &Connection,
    connection: ConnectionId,
    asked: &BTreeSet<OrganizationId>,
) -> Result<Vec<OrganizationId>, StoreError> {
    let claimed =
        "SELECT DISTINCT organization_id FROM claim WHERE connection_id = ?1 AND organization_id <> ''";
    let mut claimed = db.prepare_cached(claimed)?;
    let claimed =
        claimed.query_map([connection], |row| Ok(OrganizationId::from(row.get::<_, String>(0)?)))?;
    let mut left: Vec<OrganizationId> = claimed.collect::<Result<_, _>>()?;
    left.retain(|organization| !asked.contains(organization));
    for organization in &left {
        db.prepare_cached("DELETE FROM claim WHERE connection_id = ?1 AND organization_id = ?2")?
            .execute(params![connection, organization.as_str()])?;
    }
    Ok(left)
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::store::seen::SeenRow;
    use crate::store::tests::memory;
    use crate::store::{seen, streams};

    #[test]
    fn a_site_is_registered_once_and_keeps_what_is_known_of_it() {
        let db = memory();
        let acme = register(&db, "acme").unwrap();
        assert_eq!((acme.epoch, acme.head, acme.shard), (1, 0, 0));
        set_organization(&db, acme.id, &OrganizationId::new("ABC")).unwrap();
        set_first_contact(&db, acme.id, 7).unwrap();
        set_first_contact(&db, acme.id, 9).unwrap();
        assert_eq!(acme.portal_time(5), 5, "ours, before it told");
        for (portal, ours) in [(90 * SECOND, 30 * SECOND), (91 * SECOND, 31 * SECOND + 20)] {
            set_clock(&db, acme.id, portal, ours).unwrap();
        }
        let again = register(&db, "acme").unwrap();
        assert_eq!(again.organization_id, Some(OrganizationId::new("abc")));
        assert_eq!(again.first_contact, Some(7));
        assert_eq!((again.clock_offset, again.portal_time(5)), (Some(60 * SECOND), 60 * SECOND + 5));
        set_clock(&db, acme.id, 91 * SECOND, 90 * SECOND - 20).unwrap();
        let again = register(&db, "acme").unwrap();
        assert_eq!(again.clock_offset, Some(SECOND + 20), "a clock that was moved is noticed");
        let other = register(&db, "other").unwrap();
        assert_eq!(list(&db).unwrap(), [again, other]);
    }

    #[test]
    fn what_a_site_claimed_is_free_once_it_reads_it_no_more_or_is_configured_no_more() {
        let db = memory();
        let (acme, other) = (register(&db, "acme").unwrap(), register(&db, "other").unwrap());
        let [kept, left] = ["5d1", "5d2"].map(OrganizationId::new);
        let claim = |organization, connection: &ConnectionRow| {
            claim(&db, organization, "computers", connection.id).unwrap()
        };
        for organization in [&kept, &left] {
            assert_eq!(claim(organization, &acme), acme.id);
        }
        let asked = |these: &[&OrganizationId]| these.iter().copied().cloned().collect();
        retire_all_but(&db, &["acme", "other"]).unwrap();
        assert_eq!(release_all_but(&db, acme.id, &asked(&[&kept, &left])).unwrap(), []);
        assert_eq!([claim(&kept, &other), claim(&left, &other)], [acme.id; 2]);
        assert_eq!(release_all_but(&db, acme.id, &asked(&[&kept])).unwrap(), std::slice::from_ref(&left));
        assert_eq!([claim(&kept, &other), claim(&left, &other)], [acme.id, other.id]);
        assert_eq!(claim(&left, &acme), other.id, "it stays where it is");
        retire_all_but(&db, &["other"]).unwrap();
        assert_eq!(claim(&kept, &other), other.id);
        let again = register(&db, "acme").unwrap();
        assert_eq!(again.epoch, acme.epoch);
        assert_eq!(claim(&kept, &acme), other.id);
    }

    #[test]
    fn a_renamed_site_inherits_all_but_what_is_not_delivered_yet_unless_another_reads_the_same() {
        for shared in [false, true] {
            let db = memory();
            let (acme, other) = (register(&db, "acme").unwrap(), register(&db, "other").unwrap());
            let own = OrganizationId::new("5d1");
            set_organization(&db, acme.id, &own).unwrap();
            set_first_contact(&db, acme.id, 7).unwrap();
            db.execute("UPDATE connection SET head = 40 WHERE id = ?1", [acme.id]).unwrap();
            let key = organization(&db, acme.id, &own, Some("Acme"), 1).unwrap();
            if shared {
                organization(&db, other.id, &own, Some("Acme"), 1).unwrap();
            }
            let open = |connection| {
                let (source, scope, fingerprint) = ("audit", "tree", "");
                streams::open(&db, &streams::StreamKey { connection, source, scope, fingerprint }).unwrap()
            };
            let stream = open(acme.id);
            let row = SeenRow { uid: Uuid::from_u128(1), at: 5, other: None, organization: key };
            assert_eq!(seen::insert(&db, stream.set, &[row], seen::ListedBy::TheSet).unwrap(), [true]);
            let renamed = register(&db, "acme-de").unwrap().id;
            assert_eq!(inherit(&db, renamed, &own).unwrap(), None, "acme is configured still");
            retire_all_but(&db, &["acme-de", "other"]).unwrap();
            assert_eq!(inherit(&db, renamed, &OrganizationId::new("5d2")).unwrap(), None);
            let inherited = inherit(&db, renamed, &own).unwrap();
            if shared {
                assert_eq!(inherited, None);
                continue;
            }
            assert_eq!(inherited.as_deref(), Some("acme"));
            assert_eq!((open(renamed).id, open(renamed).set), (stream.id, stream.set));
            assert_eq!(organization(&db, renamed, &own, None, 1).unwrap(), key);
            let row = list(&db).unwrap().pop().unwrap();
            assert_eq!((row.first_contact, row.head), (Some(7), 40));
            for connection in [acme.id, renamed] {
                assert_eq!(known_organization(&db, connection, &own).unwrap().unwrap().slug, "acme");
            }
            assert_eq!(inherit(&db, renamed, &own).unwrap(), None, "once");
            set_organization(&db, renamed, &own).unwrap();
            // And back under its first name.
            let again = register(&db, "acme").unwrap().id;
            retire_all_but(&db, &["acme", "other"]).unwrap();
            assert_eq!(inherit(&db, again, &own).unwrap().as_deref(), Some("acme-de"));
            assert_eq!(open(again).set, stream.set);
        }
    }

    #[test]
    fn an_organization_keeps_its_slug_when_its_name_changes() {
        let db = memory();
        let acme = register(&db, "acme").unwrap().id;
        let id = OrganizationId::new("5d1");
        let key = organization(&db, acme, &id, Some("Käse & Söhne GmbH"), 1).unwrap();
        assert_eq!(organization(&db, acme, &id, Some("New name"), 2).unwrap(), key);
        assert_eq!(organization(&db, acme, &id, None, 3).unwrap(), key);
        let (name, slug, seen): (String, String, i64) = db
            .query_row("SELECT name, slug, first_seen FROM organization", [], |row| {
                Ok((row.get(0)?, row.get(1)?, row.get(2)?))
            })
            .unwrap();
        assert_eq!((name.as_str(), slug.as_str(), seen), ("New name", "k-se-s-hne-gmbh", 1));
    }

    #[test]
    fn rows_without_an_organization_take_nobodys_name() {
        let db = memory();
        let acme = register(&db, "acme").unwrap().id;
        let nowhere = OrganizationId::none();
        let key = organization(&db, acme, &nowhere, Some("North"), 1).unwrap();
        assert_eq!(organization(&db, acme, &nowhere, Some("South"), 2).unwrap(), key);
        let known = known_organization(&db, acme, &nowhere).unwrap();
        assert_eq!(known, Some(KnownOrganization { key, name: None, slug: "none".to_owned() }));
    }

    #[test]
    fn slugs_are_unique_within_a_connection_and_only_there() {
        let db = memory();
        let acme = register(&db, "acme").unwrap().id;
        let other = register(&db, "other").unwrap().id;
        for (connection, id) in [(acme, "a"), (acme, "b"), (acme, "c"), (other, "a")] {
            organization(&db, connection, &OrganizationId::new(id), Some("Same"), 0).unwrap();
        }
        organization(&db, acme, &OrganizationId::none(), None, 0).unwrap();
        organization(&db, acme, &OrganizationId::new("F00-D"), Some("日本"), 0).unwrap();
        let mut slugs = db.prepare("SELECT slug FROM organization ORDER BY id").unwrap();
        let slugs: Vec<String> = slugs.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect();
        assert_eq!(slugs, ["same", "same-2", "same-3", "same", "none", "f00-d"]);
    }

    #[test]
    fn the_first_connection_to_read_a_source_of_an_organization_owns_it() {
        let db = memory();
        let (acme, other) = (register(&db, "acme").unwrap().id, register(&db, "other").unwrap().id);
        let id = OrganizationId::new("a");
        assert_eq!(claim(&db, &id, "computers", acme).unwrap(), acme);
        assert_eq!(claim(&db, &id, "computers", other).unwrap(), acme);
        assert_eq!(claim(&db, &id, "unified_audit", other).unwrap(), other);
    }
}
