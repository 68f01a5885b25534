#!/usr/bin/env python3
"""OCSF as strict JSON Schemas, and a second judge of the files that a sink wrote.

    ocsf.py schemas DIR     writes DIR/VERSION/CLASS[+PROFILE...].json for the tests in Rust
    ocsf.py check FILE...   validates every line; prints "invalid 0 of N" and the classes, fails on any other

Needs the Python packages ocsf-json-schema and jsonschema; tests/run installs them. Works offline.
"""

import collections
import json
import pathlib
import sys

from ocsf_json_schema import OcsfJsonSchemaEmbedded, get_ocsf_schema

VERSIONS = ["1.3.0", "1.5.0", "1.8.0"]
CLASSES = [0, 1001, 1007, 1009, 1010, 2004, 3001, 3002, 3004, 4001, 4002, 4003, 5001, 5019, 6003, 7001, 201001, 201002]
PROFILES = [[], ["security_control"], ["host"], ["host", "security_control"]]


class Schemas:
    """Schemas by version, class and profiles, made once each."""

    def __init__(self):
        self.made = {}
        self.sources = {}

    def of(self, version, uid, profiles):
        key = (version, uid, *sorted(profiles))
        if key not in self.made:
            self.made[key] = self.make(version, uid, sorted(profiles))
        return self.made[key]

    def make(self, version, uid, profiles):
        if version not in self.sources:
            self.sources[version] = get_ocsf_schema(version)
        source = self.sources[version]
        # Classes of an extension are known by name with its prefix.
        name = next((name for name, one in source["classes"].items() if one.get("uid") == uid), None)
        return name and OcsfJsonSchemaEmbedded(source).get_class_schema(name, profiles)


def write(folder):
    schemas = Schemas()
    for version in VERSIONS:
        target = pathlib.Path(folder) / version
        target.mkdir(parents=True, exist_ok=True)
        for uid in CLASSES:
            for profiles in PROFILES:
                schema = schemas.of(version, uid, profiles)
                if schema:
                    name = "+".join([str(uid), *sorted(profiles)]) + ".json"
                    (target / name).write_text(json.dumps(schema))


def check(files):
    from jsonschema import Draft202012Validator

    schemas, validators = Schemas(), {}
    classes, invalid, total = collections.Counter(), 0, 0
    for file in files:
        for number, line in enumerate(pathlib.Path(file).read_text(encoding="utf-8").splitlines(), 1):
            record = json.loads(line)
            metadata = record["metadata"]
            key = (metadata["version"], record["class_uid"], *sorted(metadata.get("profiles", [])))
            if key not in validators:
                schema = schemas.of(key[0], key[1], list(key[2:]))
                validators[key] = schema and Draft202012Validator(schema)
            validator = validators[key]
            mistakes = list(validator.iter_errors(record)) if validator else []
            total += 1
            classes[record["class_uid"], record["class_name"]] += 1
            if validator is None or mistakes:
                invalid += 1
                what = "no such class" if validator is None else "; ".join(
                    f"{mistake.json_path}: {mistake.message[:200]}" for mistake in mistakes[:3])
                print(f"{file}:{number}: class {key[1]} of {key[0]}: {what}", file=sys.stderr)
    for (uid, name), count in sorted(classes.items()):
        print(f"{uid:>7} {name}: {count}")
    print(f"invalid {invalid} of {total}")
    return 0 if invalid == 0 and total > 0 else 1


if __name__ == "__main__":
    if len(sys.argv) == 3 and sys.argv[1] == "schemas":
        write(sys.argv[2])
    elif len(sys.argv) > 2 and sys.argv[1] == "check":
        sys.exit(check(sys.argv[2:]))
    else:
        sys.exit(__doc__)
