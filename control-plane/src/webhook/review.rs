//! AdmissionReview v1: what an API server asks, and what it is answered.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::injector::patch::Operation;

const API_VERSION: &str = "admission.k8s.io/v1";
const KIND: &str = "AdmissionReview";

/// The largest number of warnings in an answer; people read them one by one.
const MAX_WARNINGS: usize = 16;

/// What is asked. Who asks for it is left out on purpose.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Question {
    /// What the answer must repeat.
    pub(super) uid: String,
    /// `CREATE`, `UPDATE`, `DELETE` or `CONNECT`.
    pub(super) operation: String,
    /// What kind of object is to be changed.
    pub(super) kind: GroupVersionKind,
    /// The part of the object, such as `status`.
    #[serde(default)]
    pub(super) sub_resource: String,
    /// Where the object is, or is to be.
    #[serde(default)]
    pub(super) namespace: String,
    /// The object as it is to be.
    #[serde(default)]
    pub(super) object: Value,
    /// The object as it is.
    #[serde(default)]
    pub(super) old_object: Value,
    /// Whether nothing comes of it anyway.
    #[serde(default)]
    pub(super) dry_run: Option<bool>,
}

#[derive(Debug, Default, Deserialize)]
pub(super) struct GroupVersionKind {
    #[serde(default)]
    pub(super) group: String,
    pub(super) kind: String,
}

/// What is answered.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Answer {
    uid: String,
    /// Why it must not be.
    refusal: Option<String>,
    patch: Vec<Operation>,
    warnings: Vec<String>,
}

impl Question {
    /// Reads a review; a sentence when it is none.
    pub(super) fn read(review: &Value) -> Result<Self, String> {
        let text = |key: &str| review.get(key).and_then(Value::as_str).unwrap_or_default();
        let (version, kind) = (text("apiVersion"), text("kind"));
        if kind != KIND {
            return Err(format!("the kind is {kind:?}; this webhook takes {KIND}"));
        }
        if version != API_VERSION {
            return Err(format!(
                "the review is of {version:?}; this webhook speaks {API_VERSION} (admissionReviewVersions: [v1])"
            ));
        }
        let request = review.get("request").filter(|request| request.is_object());
        let request = request.ok_or("the review has no request")?;
        let question =
            Self::deserialize(request).map_err(|error| format!("the request cannot be read: {error}"))?;
        match question.uid.is_empty() {
            true => Err("the request has no uid".to_owned()),
            false => Ok(question),
        }
    }
}

impl Answer {
    /// The object may be as it is.
    pub(super) fn allow(question: &Question) -> Self {
        Self { uid: question.uid.clone(), ..Self::default() }
    }

    /// The object must not be.
    pub(super) fn refuse(question: &Question, why: String) -> Self {
        Self { refusal: Some(why), ..Self::allow(question) }
    }

    /// With a change of the object.
    pub(super) fn with_patch(self, patch: Vec<Operation>) -> Self {
        Self { patch, ..self }
    }

    /// With what people should know.
    pub(super) fn with_warnings(self, mut warnings: Vec<String>) -> Self {
        warnings.truncate(MAX_WARNINGS);
        Self { warnings, ..self }
    }

    /// As an API server reads it.
    pub(super) fn into_review(self) -> Value {
        let mut response = json!({"uid": self.uid, "allowed": self.refusal.is_none()});
        if let Some(message) = self.refusal {
            response["status"] = json!({"code": 422, "reason": "Invalid", "message": message});
        }
        if !self.patch.is_empty() {
            let patch: Vec<Value> = self.patch.iter().map(|operation| json!(operation)).collect();
            response["patchType"] = "JSONPatch".into();
            response["patch"] = STANDARD.encode(Value::from(patch).to_string()).into();
        }
        if !self.warnings.is_empty() {
            response["warnings"] = self.warnings.into();
        }
        json!({"apiVersion": API_VERSION, "kind": KIND, "response": response})
    }
}
