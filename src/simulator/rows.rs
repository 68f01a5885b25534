//! The JSON of rows of both audits (contract sections 4.1 and 5.2), written from their structs.
//!
//! A row's bytes depend on the row and on what never changes in the world, so they are the same at
//! every request; members that depend on the request (`totalCount`) are 0.

use super::answer::{Content, Row};
use super::computers::Computer;
use super::dice::{Dice, mix};
use super::text::{NO_GUID, Object, Spelling, guid};
use super::world::{Source, World, purpose};
use crate::model::Micros;

/// `actionType` of a unified-audit row by [`Row::action`], in mixed case as portals write them (5.3).
pub const UNIFIED_ACTIONS: [&str; 15] = [
    "execute",
    "install",
    "network",
    "registry",
    "read",
    "write",
    "move",
    "delete",
    "baseline",
    "powershell",
    "elevate",
    "configuration",
    "dns",
    "NewProcess",
    "web",
];

/// How often each action type comes, as a list to pick from.
pub const UNIFIED_WEIGHTS: [u8; 24] =
    [0, 0, 0, 0, 0, 0, 0, 1, 2, 2, 2, 2, 3, 4, 4, 5, 6, 7, 8, 9, 10, 12, 13, 14];

/// `action` of a system-audit row by [`Row::action`] (4.1).
pub const AUDIT_ACTIONS: [&str; 6] = ["Create", "Delete", "Logon", "Logoff", "Modify", "Read"];

/// [`AUDIT_ACTIONS`] of a `Read` row.
pub const AUDIT_READ: u8 = 5;

/// The functions and pages of requests, by the number in [`Content::Own`].
const OWN_REQUESTS: [(&str, &str); 9] = [
    ("Unified Audit", "ActionLogGetByParametersV2"),
    ("System Audit", "SystemAuditGetByParameters"),
    ("Computers", "ComputerGetByAllParameters"),
    ("Organizations", "OrganizationGetChildOrganizationsByParameters"),
    ("Organizations", "OrganizationGetForMoveComputers"),
    ("Approval Center", "ApprovalRequestGetCount"),
    ("Application Control", "PolicyGetByParameters"),
    ("Application Control", "PolicyGetById"),
    ("Computer Groups", "ComputerGroupGetGroupAndComputer"),
];

const PROGRAMS: [(&str, &str); 8] = [
    (r"c:\\program files\\mozilla firefox\\firefox.exe", "Mozilla Firefox (Built-In)"),
    (r"c:\\windows\\system32\\svchost.exe", "Windows Core Files (Built-In)"),
    (r"c:\\windows\\system32\\cmd.exe", "Command Prompt (Built-In)"),
    (r"c:\\program files\\example\\müller-tool\\agent.exe", "Müller Tool"),
    (r"c:\\users\\public\\downloads\\rechnung_märz.exe", ""),
    (r"/usr/bin/python3.11", "Python"),
    (r"/applications/example.app/contents/macos/example", "Example"),
    (r"c:\\windows\\system32\\windowspowershell\\v1.0\\powershell.exe", "PowerShell (Built-In)"),
];

const PEOPLE: [&str; 5] =
    [r"EXAMPLE\\a.muster", r"EXAMPLE\\b.tester", r"AzureAD\\Zoë Žukauskaitė", "d.sample", r"EXAMPLE\\admin"];

const SERVICES: [&str; 3] = [r"NT AUTHORITY\\SYSTEM", r"NT AUTHORITY\\NETWORK SERVICE", "root"];

/// Whose a row is: mostly somebody who works on that computer all the time, often a service, now and then anybody.
fn user_on(computer: Option<&Computer>, roll: u64) -> &'static str {
    let of =
        |list: &[&'static str], number: u64| list[usize::try_from(number % list.len() as u64).unwrap_or(0)];
    match (roll % 32, computer) {
        (1..22, Some(computer)) => of(&PEOPLE, mix(computer.number)),
        (22.., _) => of(&SERVICES, roll >> 8),
        _ => of(&PEOPLE, roll >> 8),
    }
}

/// Members of a unified-audit row that never vary.
const UNIFIED_CONSTANT: &str = concat!(
    r#""remotePresence":false,"remotePresenceText":"","remotePresenceThreatLockerDetected":false,"deviceType":"","#,
    r#""cert":"","certs":[],"certExists":false,"certificates":[],"certText":null,"organizationParents":[],"#,
    r#""applicationOrganizationId":null,"applicationIsBuiltIn":null,"notes":"","serialNumber":"","encryption":0,"#,
    r#""policyExists":true,"policyEnabled":true,"storagePolicyExists":false,"nacPolicyExists":false,"#,
    r#""secureNetworkPolicyExists":false,"twPolicyExists":false,"webControlPolicyExists":false,"#,
    r#""optionToRequest":true,"allowPermitVendorButton":false,"encryptionStatus":"","reportMissing":false,"#,
    r#""virusTotalCheckName":"SHA256","isExtension":false,"edgeStoreUrl":"","chromeStoreUrl":"","#,
    r#""firefoxStoreUrl":"","actionLogCreatedByProcesses":[],"totalCount":0,"lastSortValue":0,"groupByCount":0,"#,
    r#""batchId":null,"isProtectedProcess":false,"memoryBytes":0,"processName":null,"parentProcessId":0,"#,
    r#""parentProcessName":null,"hasViewComputerPermission":true,"allowFileUpload":true,"#,
    r#""canViewOnSystemLookup":false,"systemLookupUrl":null,"hasPolicyData":true,"integrationTypeId":null,"#,
    r#""isCloudActionType":false,"#,
    r#""isVirusTotalUnavailable":false,"deleteFileRequestSent":false,"isAccessDevice":false"#
);

impl World {
    /// Appends a row's bytes, exactly as they are served.
    pub fn write_row(&self, source: Source, row: &Row, out: &mut Vec<u8>) {
        let mut text = String::with_capacity(2_700);
        match (row.content, source) {
            (Content::Raw(index), _) => return out.extend_from_slice(self.raw(index)),
            (Content::Generated(number), Source::UnifiedAudit | Source::Threats) => {
                self.write_unified(row, number, &mut text)
            }
            (Content::Generated(number), Source::SystemAudit) => self.write_audit(row, number, &mut text),
            (Content::Own(endpoint), _) => self.write_own(row, endpoint, &mut text),
        }
        out.extend_from_slice(text.as_bytes());
    }

    /// The vendor's id of a row, absent where it is null or the row is raw bytes.
    pub fn vendor_id(&self, source: Source, row: &Row) -> Option<String> {
        let id = row.id?;
        let seed = self.options.seed;
        Some(match source {
            // The id is a GUID or opaque text (contract section 5.2).
            Source::UnifiedAudit | Source::Threats if id % 4 == 3 => {
                format!("{:016X}{id:x}alog==", mix(seed ^ id))
            }
            Source::UnifiedAudit | Source::Threats => guid(seed, purpose::UNIFIED_ROW, id).to_string(),
            Source::SystemAudit => guid(seed, purpose::AUDIT_ROW, id).to_string(),
        })
    }

    fn write_unified(&self, row: &Row, number: u64, out: &mut String) {
        let seed = self.options.seed;
        let mut dice = Dice::new(seed, purpose::UNIFIED_ROW, number);
        let odd = dice.chance(self.options.odd_share).then(|| dice.index(5));
        let organization = &self.organizations[usize::from(row.organization)];
        let computer = self.fleet.working_in(row.organization, &mut dice);
        let (path, application) = dice.pick(&PROGRAMS);
        let (parent, _) = dice.pick(&PROGRAMS);
        let person = user_on(computer, dice.roll());
        let action_type = *UNIFIED_ACTIONS.get(usize::from(row.action)).unwrap_or(&"execute");
        let (action_id, action) =
            dice.pick(&[(1, "Permit"), (1, "Permit"), (1, "Permit"), (2, "Deny"), (6, "Ringfenced")]);
        let spelling = Spelling::any(dice.roll());
        let cloud = odd == Some(1);
        let file = dice.roll();

        let mut object = Object::start(out);
        object.value("actionLogId", 0);
        object.maybe("eActionLogId", self.vendor_id(Source::UnifiedAudit, row));
        object.text("organizationId", organization.id);
        match computer.filter(|_| !cloud) {
            Some(computer) => object.text("computerId", computer.id),
            None => object.text("computerId", NO_GUID),
        };
        object.time("dateTime", row.at, spelling).time("dateTimeImported", row.imported, Spelling::Short);
        object.text("organizationName", &organization.name);
        object.maybe("hostname", computer.filter(|_| !cloud).map(|computer| &computer.name));
        if odd == Some(2) {
            // Portal versions leave members out.
            object.value("username", "null").value("fullPath", "null").text("actionType", action_type);
            write_threat(&mut object, row, self.now());
            return object.end();
        }
        object.text("username", person);
        match odd {
            Some(0) => object.text("fullPath", LongLine(number)),
            Some(3) => object.text("fullPath", r#"/opt/éxämple/agent\t--line \"one\ntwo\u0000\u001b[0m\""#),
            _ if row.action == 2 => {
                let host = file % 250;
                object.text("fullPath", format_args!("198.51.100.21:51544 -> 192.0.2.{host}:443"))
            }
            _ => object.text("fullPath", path),
        };
        object.text("policyName", if action_id == 1 { "Permit - Built-In" } else { "Default - Deny" });
        object.text("actionType", action_type).value("actionTypeId", if row.action == 0 { 5 } else { 0 });
        object.value("actionId", action_id).text("action", action);
        object.members(r#""isMonitorMode":false,"monitorMode":"","learningModeEndDate":null"#);
        object
            .text("policyId", guid(seed, purpose::POLICY, file % 40))
            .text("policyLocation", "Workstations");
        object.text("policyOrganizationId", organization.id);
        match odd {
            Some(4) => object.text("processId", file % 30_000).text("size", file % 9_000_000),
            _ => object.value("processId", file % 30_000).value("size", file % 9_000_000),
        };
        object.text("processPath", r"c:\\windows\\explorer.exe").text("createdByProcess", parent);
        let hash = (mix(file), mix(!file));
        object.text("hash", format_args!("{:016x}{:016x}", hash.0, hash.1));
        let sha256 = format!("{:016x}{:016x}{:016x}{:016x}", hash.1, hash.0, mix(hash.0), mix(hash.1));
        object.text("sha256Hash", &sha256).text("virusTotalCheckArgument", &sha256);
        match row.action {
            9 => object.text("data", "Get-ChildItem -Path . | Out-Null"),
            _ => object.value("data", "null"),
        };
        object.text("applicationId", NO_GUID).text("applicationName", application);
        object.text("effectiveAction", action);
        object.value("osType", computer.map_or(0, |computer| computer.os_type));
        if row.action == 2 {
            object.value("networkDirection", 2).text("sourceIPAddress", "198.51.100.21");
            object.text("destinationIPAddress", format_args!("192.0.2.{}", file % 250));
            object.text("destinationPort", 443);
        } else {
            object.value("networkDirection", 0);
            object.members(r#""sourceIPAddress":null,"destinationIPAddress":null,"destinationPort":null"#);
        }
        object.value("isCloudLog", cloud);
        if !self.options.short_rows {
            object.members(UNIFIED_CONSTANT);
        }
        write_threat(&mut object, row, self.now());
        object.members(r#""threatLockerItem":{"u":null,"pid":null,"pn":null,"at":0,"aid":0,"a":[]}"#);
        object.end();
    }

    fn write_audit(&self, row: &Row, number: u64, out: &mut String) {
        let mut dice = Dice::new(self.options.seed, purpose::AUDIT_ROW, number);
        let organization = &self.organizations[usize::from(row.organization)];
        let action = *AUDIT_ACTIONS.get(usize::from(row.action)).unwrap_or(&"Modify");
        let who = dice.pick(&["admin@example.com", "zoë@example.com", "helpdesk@example.org"]);
        let user = guid(self.options.seed, purpose::PERSON, who.len() as u64);
        let spelling = Spelling::any(dice.roll());
        let shape = dice.index(8);
        let object_id = guid(self.options.seed, purpose::POLICY, dice.roll() % 40);

        let mut object = Object::start(out);
        object.maybe("systemAuditId", self.vendor_id(Source::SystemAudit, row));
        object.text("organizationId", organization.id).text("organizationName", &organization.name);
        object.text("userId", user).text("emailAddress", who);
        if shape != 0 {
            // One document says `username`, live rows show `emailAddress` (contract section 4.1).
            object.text("username", who);
        }
        object.text("action", action);
        object.text("effectiveAction", if dice.chance(0.05) { "Denied" } else { "Permitted" });
        object.text("ipAddress", format_args!("192.0.2.{}", dice.below(250)));
        match shape {
            0 => object.text("details", r#"Policy \"Blockiere *.scr\" wurde angelegt"#),
            1 => object.value("details", "null"),
            _ => object.value(
                "details",
                format_args!(
                    r#"{{"page":"Computers","function":"{action} policy","objectId":"{object_id}","details":"Changed by {who}"}}"#
                ),
            ),
        };
        object.value("masterViewOnly", false).time("dateTime", row.at, spelling);
        object.members(r#""systemAuditObjectTypeId":4,"ticketNumber":"INC-1042","notes":"""#);
        object.end();
    }

    fn write_own(&self, row: &Row, endpoint: u8, out: &mut String) {
        let organization = &self.organizations[usize::from(row.organization)];
        let (page, function) = OWN_REQUESTS[usize::from(endpoint) % OWN_REQUESTS.len()];
        let mut object = Object::start(out);
        object.maybe("systemAuditId", self.vendor_id(Source::SystemAudit, row));
        object.text("organizationId", organization.id).text("organizationName", &organization.name);
        object
            .text("userId", NO_GUID)
            .text("username", "collector (API)")
            .text("emailAddress", "collector (API)");
        object.text("action", "Read").text("effectiveAction", "Permitted").text("ipAddress", "192.0.2.200");
        object.value(
            "details",
            format_args!(
                r#"{{"page":"{page}","function":"{function}","objectId":"{NO_GUID}","details":"Viewed"}}"#
            ),
        );
        object.value("masterViewOnly", true).time("dateTime", row.at, Spelling::Ticks);
        object.members(r#""systemAuditObjectTypeId":null,"ticketNumber":null,"notes":null"#);
        object.end();
    }
}

/// How bad the portal says it is, and what engines said; some said nothing.
fn write_threat(object: &mut Object<'_>, row: &Row, now: Micros) {
    let ratings = match (row.threat.ratings, row.id.unwrap_or(0) % 4) {
        (false, _) => "null",
        (true, 0) => "[]",
        (true, 1) => r#"[{"name":"示例引擎","rating":null}]"#,
        (true, _) => {
            r#"[{"name":"ExampleAV","rating":"Malicious"},{"name":"Other Engine","rating":"Suspicious"}]"#
        }
    };
    match row.threat.level(now) {
        Some(level) => object.text("threatSeverityLevel", level),
        None => object.value("threatSeverityLevel", "null"),
    };
    object.value("engineRatings", ratings);
}

/// A command line of some 25 kilobytes; of 100 once in a while.
struct LongLine(u64);

impl std::fmt::Display for LongLine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("powershell.exe -NoProfile -EncodedCommand ")?;
        for part in 0..if self.0.is_multiple_of(16) { 6_300 } else { 1_600 } {
            write!(f, "{:016x}", mix(self.0 ^ part))?;
        }
        Ok(())
    }
}

/// Rows that no careful reader must fall over: each is served as one element of a page.
pub fn hostile_rows() -> Vec<&'static [u8]> {
    vec![
        b"{\"eActionLogId\":\"bad-utf8-\xff\xfe\",\"fullPath\":\"\xc3\x28\"}",
        br#"{"eActionLogId":"lone-surrogate","fullPath":"\ud800 and \udc00"}"#,
        b"{\"eActionLogId\":\"raw-control\",\"fullPath\":\"a\x01b\x1fc\"}",
        br#"{"eActionLogId":12345,"actionId":"2","processId":"8124","dateTime":1772366400}"#,
        br#"{"eActionLogId":null,"dateTime":"0001-01-01T00:00:00"}"#,
        br#"{"dateTime":"yesterday, around noon","organizationId":7}"#,
        b"42",
        b"\"a text\"",
        b"null",
        b"[]",
        b"{}",
    ]
}
