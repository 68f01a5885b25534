use insta::assert_snapshot;

use super::Folder;
use crate::credentials::SecretSource;
use crate::redact::Redact;
use crate::redact::class::{Class, How};

#[test]
fn what_a_sink_is_spared_is_a_list_or_says_how_for_each_class() {
    let redact = |lines: &str| {
        let folder = Folder::with_sinks(&format!("  - {{ name: out, type: stdout, {lines} }}\n"));
        folder.load().sinks.remove(0).redact
    };
    assert_eq!(redact("raw: false"), None);
    assert_eq!(redact("redact: []"), None);
    let list = redact("redact: [user, ip], redact_key: { file: DIR/token }").unwrap();
    let hows = |redact: &Redact| Class::ALL.map(|class| redact.classes.how(class)).to_vec();
    let pseudonym = Some(How::Pseudonym);
    assert_eq!(hows(&list), [pseudonym, pseudonym, None, None, None, None, None, None]);
    assert!(matches!(&list.key, Some(SecretSource::File(path)) if path.ends_with("token")));
    let each = redact("redact: { user: remove, command_line: remove }").unwrap();
    assert_eq!((hows(&each)[0], hows(&each)[3]), (Some(How::Remove), Some(How::Remove)));
    assert_eq!(each.key, None);
}

#[test]
fn every_mistake_about_what_a_sink_is_spared_is_named() {
    let folder = Folder::with_sinks(
        "  - { name: a, type: stdout, redact: [user, comand_line, host] }
  - { name: b, type: file, path: b, redact: { user: pseudonim, ipp: remove } }
  - { name: c, type: file, path: c, redact: [user], redact_key: { file: DIR/short } }
  - { name: d, type: file, path: d, redact: [user], redact_key: { file: DIR/none } }
  - { name: e, type: file, path: e, redact: user }
  - { name: f, type: file, path: f, redact: [user], redact_key: { file: DIR/binary } }
  - { name: g, type: file, path: g, redact: [user], redact_key: { file: DIR/empty } }
  - { name: h, type: file, path: h, redact: [user], redact_key: { env: NO_SUCH_KEY } }
",
    );
    std::fs::write(folder.path("binary"), [7; 32]).unwrap();
    folder.write("empty", "\n");
    folder.write("short", "fifteen bytes..\n");
    assert_snapshot!(folder.mistakes(), @r#"
    DIR/lockstep.yaml has 11 mistakes:
      sinks[0].redact: unknown "comand_line"; did you mean "command_line"?
      sinks[0].redact: unknown "host"; known here: user, ip, device, command_line, domain, organization, secret, report
      sinks[0].redact_key: is missing; pseudonyms need a key: write `{ file: /run/secrets/NAME }`, with a file of at least 16 random characters (`openssl rand -hex 32`), or `remove` for each class of `redact`
      sinks[1].redact.user: unknown "pseudonim"; did you mean "pseudonym"?
      sinks[1].redact.ipp: unknown key; did you mean "ip"?
      sinks[2].redact_key: the key in file DIR/short has 15 bytes and can be guessed; write at least 16 random ones, such as `openssl rand -hex 32` prints
      sinks[3].redact_key.file: cannot read DIR/none: No such file or directory (os error 2)
      sinks[4].redact: expected a list such as [user, ip], or a section such as { user: remove }, found "user"
      sinks[5].redact_key: the secret in file DIR/binary contains a control character or is no plain text; write it again without line breaks inside
      sinks[6].redact_key.file: DIR/empty is empty
      sinks[7].redact_key.env: environment variable "NO_SUCH_KEY" is not set or empty
    "#);
}

#[test]
fn a_key_without_anything_to_redact_is_a_mistake() {
    let folder = Folder::with_sinks(
        "  - { name: a, type: stdout, redact_key: { file: DIR/token } }
  - { name: b, type: file, path: b, redact: [], redact_key: { file: DIR/token } }
  - { name: c, type: file, path: c, redact: {}, redact_key: { file: DIR/token } }
  - { name: d, type: file, path: d, redact: [nobody], redact_key: { file: DIR/token } }
",
    );
    assert_snapshot!(folder.mistakes(), @r#"
    DIR/lockstep.yaml has 4 mistakes:
      sinks[0].redact_key: is given, but `redact` names nothing, so the sink would get everything as it is; write what it is to be spared, such as `redact: [user, ip]`, or leave `redact_key` out
      sinks[1].redact_key: is given, but `redact` names nothing, so the sink would get everything as it is; write what it is to be spared, such as `redact: [user, ip]`, or leave `redact_key` out
      sinks[2].redact_key: is given, but `redact` names nothing, so the sink would get everything as it is; write what it is to be spared, such as `redact: [user, ip]`, or leave `redact_key` out
      sinks[3].redact: unknown "nobody"; known here: user, ip, device, command_line, domain, organization, secret, report
    "#);
}
