//! The CustomResourceDefinition as it is installed: what the types say, with a bound on everything.

use crate::{ChatCluster, bounds};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::CustomResourceExt as _;
use serde_json::Value;

/// The definition, ready to be applied.
///
/// # Errors
/// None that the types can cause.
pub fn definition() -> Result<CustomResourceDefinition, serde_json::Error> {
    let mut definition = ChatCluster::crd();
    for version in &mut definition.spec.versions {
        let Some(schema) = version.schema.as_mut() else { continue };
        let mut value = serde_json::to_value(&schema.open_api_v3_schema)?;
        bounds::apply(&mut value);
        // The derive's own words for the root speak of Rust.
        value["description"] = value["properties"]["spec"]["description"].clone();
        schema.open_api_v3_schema = Some(serde_json::from_value(value)?);
    }
    Ok(definition)
}

/// The schema of the one version: what a `ChatCluster` may be.
pub fn schema() -> Value {
    let definition = definition().and_then(serde_json::to_value).unwrap_or_default();
    definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"].clone()
}
