//! The list of reports, and their rows.

use super::{Request, Stage};
use crate::simulator::clock::date;
use crate::simulator::reply::Reply;
use crate::simulator::reports::{REPORTS, RunBody, id, write_computer, write_entry};
use crate::simulator::stats::Logged;
use crate::simulator::text::Object;

impl Stage {
    /// Every report, in groups or not (contract section 3.1); with a group that is empty, and one that is null.
    pub(super) fn report_list(&self) -> Reply {
        let hidden = |place: &usize| self.reports.without_computers && *place < 2;
        let entries = (0..REPORTS.len()).filter(|place| !hidden(place)).map(|place| {
            let mut out = String::new();
            write_entry(&self.world, place, &mut out);
            (REPORTS[place].0, out)
        });
        if self.reports.flat {
            let entries: Vec<String> = entries.map(|(_, entry)| entry).collect();
            return Reply::json(format!("[{}]", entries.join(",")).into_bytes());
        }
        let mut groups: Vec<(&str, Vec<String>)> = vec![("Empty", Vec::new())];
        for (group, entry) in entries {
            match groups.iter_mut().find(|(name, _)| *name == group) {
                Some((_, entries)) => entries.push(entry),
                None => groups.push((group, vec![entry])),
            }
        }
        let mut out = String::from("[");
        for (group, entries) in groups {
            out += &format!(r#"{{"category":"{group}","reports":[{}]}},"#, entries.join(","));
        }
        out += r#"{"category":null,"reports":null}]"#;
        Reply::json(out.into_bytes())
    }

    /// The whole of one report (contract section 3.2).
    pub(super) fn report_rows(
        &mut self,
        organization: u16,
        request: &Request<'_>,
        logged: &mut Logged,
    ) -> Result<Reply, Reply> {
        let body: RunBody = serde_json::from_slice(request.body).map_err(|_| Reply::binding_failed())?;
        let missing = body.missing();
        if !missing.is_empty() {
            self.stats.violation(format!("a report is run without {}", missing.join(", ")));
            return Err(self.error(500, "A problem occurred with the request", request.number));
        }
        let asked = body.report_id.unwrap_or_default().to_lowercase();
        let place = (0..REPORTS.len()).find(|place| id(&self.world, *place).to_string() == asked);
        let Some(place) = place else {
            return Err(self.error(400, "Report not found", request.number));
        };
        let is_tree = body.include_child_organizations == Some(true) && organization == 0 && place == 1;
        let rows = match place {
            0 | 1 if !self.reports.empty => self.reported_computers((!is_tree).then_some(organization)),
            3 => self.denies_by_day(),
            _ => Vec::new(),
        };
        logged.rows = rows.len();
        let rows = rows.join(",");
        if self.reports.bare {
            return Ok(Reply::json(format!("[{rows}]").into_bytes()));
        }
        let columns = match place {
            0 => r#"[{"name":"Computer Id","type":"Guid"},{"name":"Hostname","type":"String"}]"#,
            1 => r#"[{"columnName":"Computer Id","dataType":"System.Guid"},{"field":"Hostname"}]"#,
            _ => "[]",
        };
        Ok(Reply::json(format!(r#"{{"data":[{rows}],"columns":{columns}}}"#).into_bytes()))
    }

    fn reported_computers(&self, only: Option<u16>) -> Vec<String> {
        let shown = |of: u16| only.is_none_or(|only| only == of);
        let computers = self.world.fleet.computers.iter().filter(|computer| shown(computer.organization));
        let rows = computers.filter_map(|computer| {
            let of = &self.world.organizations[usize::from(computer.organization)];
            let mut row = String::new();
            write_computer(computer, of, self.world.now(), &self.reports, &mut row).then_some(row)
        });
        rows.collect()
    }

    fn denies_by_day(&self) -> Vec<String> {
        let day = date(self.world.now()).format("%Y-%m-%d").to_string();
        let mut rows = Vec::new();
        for (number, of) in self.world.organizations.iter().enumerate() {
            let mut row = String::new();
            let mut object = Object::start(&mut row);
            object.text("Day", &day).text("Organization", &of.name).value("Count of Denies", number);
            object.value("Was It Quiet?", number == 0).value("Nothing", "null");
            object.end();
            rows.push(row);
        }
        // The same again: a report may list equal rows.
        rows.extend(rows.first().cloned());
        rows
    }
}
