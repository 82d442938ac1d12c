//! Runs tshark with the dissector and parses its output (PDML, one element per
//! line).

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use super::reading::Seen;
use super::{pcap, root, scratch};

/// tshark's view of the connections of a capture, in order.
pub(crate) type Flows = Vec<Flow>;

/// tshark's view of one connection.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Flow {
    /// The valid messages.
    pub(crate) seen: Vec<Seen>,
    /// The first defect.
    pub(crate) defect: Option<Defect>,
    /// Names of the expert items, in order.
    pub(crate) experts: Vec<String>,
    /// Size of the valid messages, in bytes.
    bytes: usize,
}

/// A defect that tshark reported.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Defect {
    /// Position in its packet.
    pub(crate) pos: usize,
    /// The violated rule.
    pub(crate) rule: String,
    /// The malformed field.
    pub(crate) field: Option<String>,
}

/// Dissects a capture. `options` are further arguments for tshark.
pub(crate) fn dissect(name: &str, capture: &[u8], options: &[&str]) -> Flows {
    let port = format!("tcp.port=={},qemu_rp", pcap::PORT);
    let mut all = vec!["-d", port.as_str()];
    all.extend(options);
    flows(&run(name, capture, &all))
}

/// tshark's output for a capture.
pub(crate) fn run(name: &str, capture: &[u8], options: &[&str]) -> String {
    let path = scratch(&format!("{name}.pcap"));
    fs::write(&path, capture).unwrap();
    let lua = root().join("spec/wireshark/qemu_migration_rp.lua");
    tshark(&lua, &path, options)
}

fn tshark(lua: &Path, capture: &Path, options: &[&str]) -> String {
    let out = Command::new("tshark")
        // A home directory without settings or plugins.
        .env("HOME", scratch(""))
        .env_remove("XDG_CONFIG_HOME")
        .arg("-X")
        .arg(format!("lua_script:{}", lua.display()))
        .args([
            "-n",
            "-T",
            "pdml",
            "-J",
            "tcp qemu_rp _ws.expert _ws.lua",
            "-r",
        ])
        .arg(capture)
        .args(options)
        .stdin(Stdio::null())
        .output()
        .expect("tshark runs");
    let text = String::from_utf8_lossy(&out.stdout).into_owned();
    let errors = String::from_utf8_lossy(&out.stderr);
    assert!(out.status.success(), "{errors}");
    assert!(!text.contains("Lua Error"), "{}", lua_errors(&text));
    assert!(!errors.contains("Lua"), "{errors}");
    text
}

fn lua_errors(text: &str) -> String {
    let lines: Vec<_> = text.lines().filter(|l| l.contains("Lua Error")).collect();
    lines.join("\n")
}

fn flows(pdml: &str) -> Flows {
    let mut flows = Flows::new();
    let mut stream = 0;
    let mut inside = false;
    let mut size = 0;
    let mut message: Option<Seen> = None;
    for line in pdml.lines().map(str::trim) {
        if let Some(proto) = line.strip_prefix("<proto ") {
            inside = attribute(proto, "name") == Some("qemu_rp");
            if inside {
                size = number(attribute(proto, "size"));
            }
            continue;
        }
        if line == "</proto>" && inside {
            inside = false;
            let flow: &mut Flow = &mut flows[stream];
            if let Some(message) = message.take().filter(|_| flow.defect.is_none()) {
                flow.seen.push(message);
                flow.bytes += size;
            }
        }
        let Some(field) = line.strip_prefix("<field ") else {
            continue;
        };
        let name = attribute(field, "name").unwrap_or_default();
        let show = attribute(field, "show").unwrap_or_default();
        if name == "tcp.stream" {
            stream = number(Some(show));
            flows.resize(flows.len().max(stream + 1), Flow::default());
        }
        if !inside {
            continue;
        }
        let flow = &mut flows[stream];
        match name.strip_prefix("qemu_rp.") {
            Some("message") => {
                message = Some(Seen {
                    offset: flow.bytes,
                    label: show.into(),
                    fields: Vec::new(),
                });
            }
            Some("malformed") => {
                let text = attribute(field, "showname").unwrap_or_default();
                flow.defect.get_or_insert(Defect {
                    pos: number(attribute(field, "pos")),
                    rule: show.into(),
                    field: text.split_once(" in ").map(|(_, field)| field.into()),
                });
            }
            Some(path) if show.is_empty() || is_expert(path) => flow.experts.push(path.into()),
            Some(path) => {
                if let Some(message) = &mut message {
                    message.fields.extend(value(path, field, show));
                }
            }
            None => {}
        }
    }
    flows
}

/// Whether the path is that of an expert item, not of a field.
fn is_expert(path: &str) -> bool {
    path.starts_with("malformed.") || matches!(path, "cut_short" | "out_of_step" | "bitmap_limit")
}

/// Name and value as in [`Seen`], if the field is part of it.
fn value(path: &str, field: &str, show: &str) -> Option<(String, String)> {
    let name = path.trim_start_matches("v7.").split_once('.')?.1;
    match name {
        // For display only; `block.raw` has the bytes.
        "block" | "block.len" | "len.named" | "bitmap.data" | "bitmap.end_mark" => None,
        "block.raw" => Some(("block".into(), attribute(field, "value")?.into())),
        _ => {
            let number = match show.strip_prefix("0x") {
                Some(hex) => u64::from_str_radix(hex, 16),
                None => show.parse(),
            };
            let number = number.unwrap_or_else(|_| panic!("{path}={show} is not a number"));
            Some((name.into(), number.to_string()))
        }
    }
}

fn attribute<'a>(element: &'a str, name: &str) -> Option<&'a str> {
    let mut rest = element;
    loop {
        let (key, after) = rest.split_once("=\"")?;
        let (value, after) = after.split_once('"')?;
        if key.trim() == name {
            return Some(value);
        }
        rest = after;
    }
}

fn number(text: Option<&str>) -> usize {
    text.and_then(|text| text.parse().ok())
        .unwrap_or_else(|| panic!("{text:?} is not a number"))
}
