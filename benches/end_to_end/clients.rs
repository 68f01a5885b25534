//! What collecting costs at the least: a client that throws the pages away, and the floor, which parses each
//! row once into borrowed fields, writes it and syncs every page. Neither has a store, coverage or delivery.

use std::borrow::Cow;
use std::fs::File;
use std::io::Write;
use std::path::Path;

use anyhow::{Context, ensure};
use bytes::Bytes;
use lockstep::source::{Query, Scope, Source, request_time};
use lockstep::sources::unified_audit::UnifiedAudit;
use reqwest::Client;
use serde::Deserialize;
use serde_json::Value;

use crate::portal::{HOURS, Held};

/// Rows a page, as the collector asks for by default.
pub(crate) const PAGE_SIZE: u32 = 500;
/// Rows asked for in one interval: well below what a portal lists at once.
const INTERVAL_ROWS: u64 = 7_000;

/// Fetches every page and throws it away.
pub(crate) async fn bare(held: &Held) -> anyhow::Result<()> {
    each_page(held, |page| rows_in(&page).map(|_| ())).await
}

/// Fetches every page, parses its rows, writes a line for each and makes it safe.
pub(crate) async fn floor(held: &Held, out: &Path) -> anyhow::Result<()> {
    let mut file = File::create(out)?;
    let mut lines = Vec::new();
    each_page(held, |page| {
        lines.clear();
        parse(&page.body, &mut lines)?;
        file.write_all(&lines)?;
        Ok(file.sync_data()?)
    })
    .await
}

struct Page {
    body: Bytes,
    total: u64,
}

/// A page announces its rows; to throw it away nobody has to look inside.
fn rows_in(page: &Page) -> anyhow::Result<u64> {
    ensure!(page.body.starts_with(b"["), "no list of rows");
    Ok(page.total)
}

/// The same pages as the collector asks for, one after the other over one connection.
async fn each_page(held: &Held, mut take: impl FnMut(Page) -> anyhow::Result<()>) -> anyhow::Result<()> {
    let client = Client::builder().build()?;
    let intervals = i64::try_from(held.rows.div_ceil(INTERVAL_ROWS))?;
    // A minute more, since rows may have happened shortly before the first was received.
    let from = held.until - HOURS * 3_600 - 60;
    let mut rows = 0;
    for interval in 0..intervals {
        let border = |interval: i64| from + (held.until - from) * interval / intervals;
        let (first, end) = (border(interval), border(interval + 1));
        let mut number = 1;
        loop {
            // The portal counts both ends of an interval in.
            let page = fetch(&client, held, (first, end), number).await?;
            let total = page.total;
            take(page)?;
            if u64::from(number * PAGE_SIZE) >= total {
                rows += total;
                break;
            }
            number += 1;
        }
    }
    ensure!(rows >= held.rows, "{rows} of {} rows came", held.rows);
    Ok(())
}

async fn fetch(client: &Client, held: &Held, span: (i64, i64), page: u32) -> anyhow::Result<Page> {
    let query = Query {
        part: 1,
        span: Some(span),
        ..Query::whole(Scope::Tree(held.organization.clone().into()), page, PAGE_SIZE)
    };
    let response = client
        .post(format!("{}/portalapi/{}", held.url, UnifiedAudit.endpoint().expect("it is published").path()))
        .header("authorization", &held.token)
        .header("managedorganizationid", &held.organization)
        .header("usenewsearch", "true")
        .header("content-type", "application/json")
        .body(serde_json::to_vec(&UnifiedAudit.body(&query))?)
        .send()
        .await?
        .error_for_status()
        .with_context(|| format!("page {page} from {}", request_time(span.0)))?;
    let paging = response.headers().get("pagination").context("no total")?;
    let paging: Value = serde_json::from_slice(paging.as_bytes())?;
    let total = paging["totalItems"].as_u64().context("no total")?;
    Ok(Page { body: response.bytes().await?, total })
}

/// What a line is made of beside the row.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Row<'a> {
    #[serde(borrow)]
    e_action_log_id: Cow<'a, str>,
    #[serde(borrow)]
    organization_id: Cow<'a, str>,
    #[serde(borrow)]
    date_time: Cow<'a, str>,
    #[serde(borrow)]
    date_time_imported: Cow<'a, str>,
}

/// Writes a line for each row of a list; each row is read once.
fn parse(list: &[u8], lines: &mut Vec<u8>) -> anyhow::Result<()> {
    let mut at = 1;
    while list.get(at).is_some_and(|byte| *byte == b'{') {
        let mut rows = serde_json::Deserializer::from_slice(&list[at..]).into_iter::<Row<'_>>();
        let row = rows.next().context("a row that ends early")??;
        let end = at + rows.byte_offset();
        write!(
            lines,
            r#"{{"id":"{}","organization_id":"{}","time":"{}","imported":"{}","row":"#,
            row.e_action_log_id, row.organization_id, row.date_time, row.date_time_imported
        )?;
        lines.extend_from_slice(&list[at..end]);
        lines.extend_from_slice(b"}\n");
        at = end + 1;
    }
    ensure!(at == list.len(), "something after the last row");
    Ok(())
}
