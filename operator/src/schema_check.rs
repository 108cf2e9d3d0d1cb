//! Whether the installed definition knows every field of ours. helm does not update definitions of a
//! chart's `crds/` folder, and the API server drops what it does not know without a word.

use crds::manifest;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::Client;
use kube::api::Api;
use serde_json::Value;

/// What became of looking.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Installed {
    /// With every field.
    Complete,
    /// Without these fields.
    Lacks(Vec<String>),
    /// Not at all.
    Absent,
    /// The operator may not look (it keeps to namespaces).
    Unknown,
}

/// Looks at the installed definition.
///
/// # Errors
/// Whatever the API server answers, apart from that it is not there or may not be read.
pub async fn look(client: &Client) -> Result<Installed, kube::Error> {
    let name = format!("chatclusters.{}", crds::GROUP);
    match Api::<CustomResourceDefinition>::all(client.clone()).get_opt(&name).await {
        Ok(Some(installed)) => Ok(compare(&installed)),
        Ok(None) => Ok(Installed::Absent),
        Err(kube::Error::Api(status)) if status.code == 403 => Ok(Installed::Unknown),
        Err(error) => Err(error),
    }
}

fn compare(installed: &CustomResourceDefinition) -> Installed {
    let mut versions = installed.spec.versions.iter();
    let version = versions.find(|version| version.name == crds::VERSION && version.served);
    let schema = version.and_then(|version| version.schema.as_ref()?.open_api_v3_schema.as_ref());
    let there = schema.and_then(|schema| serde_json::to_value(schema).ok()).unwrap_or_default();
    let mut lacking = Vec::new();
    collect(&manifest::schema(), &there, "", &mut lacking);
    if lacking.is_empty() { Installed::Complete } else { Installed::Lacks(lacking) }
}

/// Only the topmost of what is missing is named.
fn collect(ours: &Value, there: &Value, path: &str, lacking: &mut Vec<String>) {
    for (name, field) in ours["properties"].as_object().into_iter().flatten() {
        let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
        match there["properties"].get(name) {
            None => lacking.push(path),
            Some(installed) => collect(field, installed, &path, lacking),
        }
    }
    if ours.get("items").is_some() {
        collect(&ours["items"], &there["items"], &format!("{path}[]"), lacking);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_that_an_older_definition_lacks_are_named() {
        let mut definition = manifest::definition().unwrap();
        assert_eq!(compare(&definition), Installed::Complete);
        let mut schema = serde_json::to_value(&definition.spec.versions[0].schema).unwrap();
        let spec = &mut schema["openAPIV3Schema"]["properties"]["spec"]["properties"];
        spec.as_object_mut().unwrap().remove("exposure");
        spec["providers"]["items"]["properties"].as_object_mut().unwrap().remove("models");
        definition.spec.versions[0].schema = serde_json::from_value(schema).unwrap();
        let lacks = ["spec.exposure", "spec.providers[].models"].map(str::to_owned).to_vec();
        assert_eq!(compare(&definition), Installed::Lacks(lacks));
        definition.spec.versions[0].served = false;
        assert!(
            matches!(compare(&definition), Installed::Lacks(all) if all.contains(&"spec".to_owned()))
        );
    }
}
