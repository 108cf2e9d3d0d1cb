//! JSON Schema, as much of it as the documents use: a keyword that is not known here fails the test,
//! so that none is silently ignored.

use serde_json::{Map, Value};
use uuid::Uuid;

/// Say something, and constrain nothing.
const NOTES: [&str; 6] = ["description", "title", "default", "example", "examples", "deprecated"];

/// Checks values against schemas of one document.
pub(crate) struct Schema<'a> {
    document: &'a Value,
    /// Whether a field that is not documented is an error: ours must all be, a client's need not.
    strict: bool,
}

type Checked = Result<(), String>;

impl<'a> Schema<'a> {
    pub(crate) fn new(document: &'a Value) -> Self {
        Self { document, strict: false }
    }

    pub(crate) fn strict(document: &'a Value) -> Self {
        Self { document, strict: true }
    }

    pub(crate) fn assert_valid(&self, schema: &Value, value: &Value, name: &str) {
        assert!(schema.is_object(), "{name}: no schema");
        self.check(schema, value).unwrap_or_else(|why| panic!("{name}: {why}\nin {value}"));
    }

    /// Why a value does not fit.
    pub(crate) fn check(&self, schema: &Value, value: &Value) -> Checked {
        self.keywords(schema, value)?;
        self.no_other_fields(schema, value)
    }

    fn keywords(&self, schema: &Value, value: &Value) -> Checked {
        let Some(keywords) = schema.as_object() else { return Ok(()) };
        for (keyword, rule) in keywords {
            self.keyword(keyword, rule, value)?;
        }
        Ok(())
    }

    fn keyword(&self, keyword: &str, rule: &Value, value: &Value) -> Checked {
        let wrong = || Err(format!("{value} is not {keyword} {rule}"));
        let holds = match keyword {
            "$ref" => return self.keywords(self.resolve(rule), value),
            "allOf" => {
                return rule.as_array().unwrap().iter().try_for_each(|s| self.keywords(s, value));
            }
            "oneOf" | "anyOf" => {
                let fitting = rule.as_array().unwrap().iter();
                let fitting = fitting.filter(|schema| self.check(schema, value).is_ok()).count();
                if keyword == "oneOf" { fitting == 1 } else { fitting > 0 }
            }
            "type" => match rule {
                Value::Array(types) => types.iter().any(|one| has_type(one, value)),
                one => has_type(one, value),
            },
            "const" => rule == value,
            "enum" => rule.as_array().unwrap().contains(value),
            "required" => {
                let names = rule.as_array().unwrap().iter();
                let missing = |name: &Value| value.get(name.as_str().unwrap()).is_none();
                !value.is_object() || !names.into_iter().any(missing)
            }
            "properties" => return self.properties(rule.as_object().unwrap(), value),
            "items" => {
                let items = value.as_array().into_iter().flatten();
                return items.into_iter().try_for_each(|item| self.check(rule, item));
            }
            "additionalProperties" => rule == &Value::Bool(false) || rule == &Value::Bool(true),
            "minimum" => value.as_f64().is_none_or(|n| n >= rule.as_f64().unwrap()),
            // Compared as integers: a float would round what is just above.
            "maximum" => match (value.as_u64(), rule.as_u64()) {
                (Some(n), Some(most)) => n <= most,
                _ => value.as_f64().is_none_or(|n| n <= rule.as_f64().unwrap()),
            },
            "minLength" => chars(value).is_none_or(|n| n >= rule.as_u64().unwrap()),
            "maxLength" => chars(value).is_none_or(|n| n <= rule.as_u64().unwrap()),
            "pattern" => value.as_str().is_none_or(|text| matches(rule.as_str().unwrap(), text)),
            "format" => return format(rule.as_str().unwrap(), value),
            note if NOTES.contains(&note) || note.starts_with("x-") => true,
            unknown => panic!("the keyword {unknown} is not known here"),
        };
        if holds { Ok(()) } else { wrong() }
    }

    fn properties(&self, properties: &Map<String, Value>, value: &Value) -> Checked {
        for (name, schema) in properties {
            if let Some(field) = value.get(name) {
                self.check(schema, field).map_err(|why| format!("{name}: {why}"))?;
            }
        }
        Ok(())
    }

    fn resolve(&self, reference: &Value) -> &Value {
        let reference = reference.as_str().unwrap();
        let found = reference.strip_prefix('#').and_then(|at| self.document.pointer(at));
        found.unwrap_or_else(|| panic!("{reference} leads nowhere"))
    }

    fn no_other_fields(&self, schema: &Value, value: &Value) -> Checked {
        let closed = schema.get("additionalProperties") == Some(&Value::Bool(false));
        let (Some(fields), true) = (value.as_object(), self.strict || closed) else {
            return Ok(());
        };
        let mut known = Vec::new();
        if !self.names(schema, &mut known) {
            return Ok(());
        }
        match fields.keys().find(|name| !known.contains(name)) {
            Some(name) => Err(format!("the field {name} is not documented")),
            None => Ok(()),
        }
    }

    /// The fields that a schema knows; `false`: it says nothing about fields.
    fn names<'s>(&'s self, schema: &'s Value, known: &mut Vec<&'s String>) -> bool {
        if let Some(reference) = schema.get("$ref") {
            return self.names(self.resolve(reference), known);
        }
        let mut says = false;
        if let Some(properties) = schema.get("properties").and_then(Value::as_object) {
            known.extend(properties.keys());
            says = true;
        }
        for several in ["allOf", "oneOf", "anyOf"] {
            for part in schema.get(several).and_then(Value::as_array).into_iter().flatten() {
                says |= self.names(part, known);
            }
        }
        says
    }
}

fn has_type(name: &Value, value: &Value) -> bool {
    match name.as_str().unwrap() {
        "null" => value.is_null(),
        "boolean" => value.is_boolean(),
        "string" => value.is_string(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        "number" => value.is_number(),
        "integer" => value.is_i64() || value.is_u64(),
        other => panic!("no type {other}"),
    }
}

fn chars(value: &Value) -> Option<u64> {
    value.as_str().map(|text| text.chars().count() as u64)
}

/// The few patterns that are in use.
fn matches(pattern: &str, text: &str) -> bool {
    match pattern {
        r"\S" => text.chars().any(|c| !c.is_whitespace()),
        "^[!-~]{1,64}$" => {
            (1..=64).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic())
        }
        "^[0-9a-f]{8}$" => {
            text.len() == 8 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
        }
        other => panic!("the pattern {other} is not known here"),
    }
}

fn format(name: &str, value: &Value) -> Checked {
    let text = value.as_str();
    let holds = match name {
        "uuid" => text.is_none_or(|text| Uuid::parse_str(text).is_ok()),
        "date-time" => text.is_none_or(|text| text.parse::<jiff::Timestamp>().is_ok()),
        "int32" | "int64" | "double" => true,
        other => panic!("the format {other} is not known here"),
    };
    if holds { Ok(()) } else { Err(format!("{value} has not the format {name}")) }
}
