//! Client of a language model with an OpenAI-compatible chat endpoint. Each request asks for one
//! JSON object and is bounded in tokens and time.

use std::time::Duration;

use reqwest::Url;
use serde_json::{Value, json};

use crate::channel::http_client::HttpClient;
use crate::kernel::config::Config;
use crate::kernel::error::{Error, Result};
use crate::kernel::limits;

/// The configured language model.
#[derive(Clone, Debug)]
pub struct LanguageModel {
    http_client: HttpClient,
    url: Url,
    name: String,
    key: Option<String>,
    tokens: u32,
    time: Duration,
}

/// A usable answer of the model.
#[derive(Clone, Debug)]
pub struct ModelAnswer {
    /// The JSON object that the model wrote.
    pub value: Value,
    /// The tokens used: `{model, promptTokens, completionTokens, totalTokens}`.
    pub usage: Value,
}

/// The failure of a request that got no usable answer.
#[derive(Clone, Debug)]
pub struct Failed {
    /// The reason.
    pub why: String,
    /// True if a retry may succeed.
    pub retryable: bool,
    /// Minimum delay before the retry; none for the usual backoff.
    pub after: Option<Duration>,
}

impl Failed {
    fn temporary(why: impl Into<String>) -> Self {
        Self { why: why.into(), retryable: true, after: None }
    }
}

impl LanguageModel {
    /// The configured model; `None` if there is none.
    pub fn configured(config: &Config) -> Result<Option<Self>> {
        let Some(base) = &config.model_url else { return Ok(None) };
        let url = format!("{}/chat/completions", base.trim_end_matches('/'));
        let url = Url::parse(&url).map_err(|err| {
            Error::internal(format!("--model-url (SORTIE_MODEL_URL): {err}; write it like https://api.example.com/v1"))
        })?;
        // The operator chooses the address, which may be a private one, too.
        let everywhere = ["0.0.0.0/0", "::/0"].map(str::parse);
        let everywhere: Vec<ipnet::IpNet> = everywhere.into_iter().filter_map(std::result::Result::ok).collect();
        Ok(Some(Self {
            http_client: HttpClient::new(&everywhere, serde_json::Map::new())?,
            url,
            name: config.model.clone(),
            key: config.model_key.clone(),
            tokens: config.model_tokens,
            time: Duration::from_secs(u64::from(config.model_seconds)),
        }))
    }

    /// Maximum duration of a request.
    pub fn time(&self) -> Duration {
        self.time
    }

    /// Asks for a JSON object. The schema, if any, is part of the prompt, and the answer is
    /// validated against it.
    pub async fn ask(
        &self,
        system: &str,
        user: &str,
        schema: Option<&Value>,
    ) -> std::result::Result<ModelAnswer, Failed> {
        let requirement = schema.map_or_else(String::new, |schema| format!(" It meets this JSON Schema: {schema}"));
        let system = format!("{system}\n\nAnswer with one JSON object and nothing else.{requirement}");
        let body = json!({
            "model": self.name,
            "max_tokens": self.tokens,
            "response_format": { "type": "json_object" },
            "messages": [{ "role": "system", "content": system }, { "role": "user", "content": user }],
        });
        let mut request = self.http_client.client().post(self.url.clone()).header("content-type", "application/json");
        if let Some(key) = &self.key {
            request = request.bearer_auth(key);
        }
        let request = request.body(body.to_string()).build().map_err(|err| Failed::temporary(err.to_string()))?;
        let answer = self.http_client.call(request, self.time, limits::CALL_BYTES).await;
        let answer = answer.map_err(|failed| Failed {
            why: format!("the model: {}", failed.why),
            retryable: failed.retryable,
            after: None,
        })?;
        if !answer.status.is_success() {
            let code = answer.status.as_u16();
            let retryable = answer.status.is_server_error() || matches!(code, 408 | 425 | 429);
            return Err(Failed { why: format!("the model answered {code}"), retryable, after: answer.retry_after() });
        }
        let whole: Value = serde_json::from_slice(&answer.body)
            .map_err(|err| Failed::temporary(format!("the model's response is not valid JSON: {err}")))?;
        let choice = &whole["choices"][0];
        if choice["finish_reason"] == "length" {
            return Err(Failed::temporary(format!("the model's answer was cut off after {} tokens", self.tokens)));
        }
        let text = choice["message"]["content"].as_str().unwrap_or_default();
        let value: Value = serde_json::from_str(bare(text))
            .map_err(|err| Failed::temporary(format!("the model's answer is not valid JSON: {err}")))?;
        let problems = match schema {
            Some(schema) => crate::domain::content::result_schema::problems(schema, &value),
            None if value.is_object() => Vec::new(),
            None => vec!["it is not an object".to_owned()],
        };
        if !problems.is_empty() {
            return Err(Failed::temporary(format!("the model's answer does not fit: {}", problems.join("; "))));
        }
        let count = |name: &str| whole["usage"][name].as_i64();
        let usage = json!({
            "model": whole["model"].as_str().unwrap_or(&self.name),
            "promptTokens": count("prompt_tokens"),
            "completionTokens": count("completion_tokens"),
            "totalTokens": count("total_tokens"),
        });
        Ok(ModelAnswer { value, usage })
    }
}

/// Strips the code fence that some models put around JSON.
fn bare(text: &str) -> &str {
    let text = text.trim();
    let inner = text.strip_prefix("```json").or_else(|| text.strip_prefix("```"));
    inner.and_then(|text| text.strip_suffix("```")).unwrap_or(text).trim()
}
