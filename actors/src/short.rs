//! Short ways: an engine for the length of a closure, and one value by its key.

use karst_types::Value;

use crate::{
    engine::{Engine, EngineBuilder, EngineHandle},
    error::Result,
    online_query::{AnswerValue, ErrorCode, IntoValue, QueryError, QueryRequest},
};

impl EngineBuilder {
    /// Starts the engine, lends it to `work`, and stops it gracefully, whatever came of the work. Blocks, on a runtime of its own:
    /// inside async code use [`EngineBuilder::start`] and [`Engine::shutdown`].
    ///
    /// # Errors
    /// Of the start; then of the work; then of the stop.
    pub fn run<T>(self, work: impl AsyncFnOnce(&Engine) -> Result<T>) -> Result<T> {
        tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
            let engine = self.start().await?;
            let done = work(&engine).await;
            let stopped = engine.shutdown().await;
            done.and_then(|value| stopped.map(|()| value))
        })
    }
}

impl Engine {
    /// One value of an entity. See [`EngineHandle::get`].
    ///
    /// # Errors
    /// As [`EngineHandle::get`].
    pub fn get(&self, feature: impl Into<String>, key: impl IntoValue) -> Result<Value, QueryError> {
        self.handle().get(feature, key)
    }
}

impl EngineHandle {
    /// The value of a feature of the entity with this key: the query with one input, the key, and one output.
    ///
    /// # Errors
    /// What [`EngineHandle::query`] would say: the feature is unknown, the key of a wrong type, or there is no value.
    pub fn get(&self, feature: impl Into<String>, key: impl IntoValue) -> Result<Value, QueryError> {
        let feature: String = feature.into();
        let class = feature.split_once('.').and_then(|(class, _)| self.registry().class(class));
        // Of an unknown class the plan says what is wrong, whatever its key is called.
        let input = class.map_or_else(|| "key".to_owned(), |class| format!("{}.{}", class.name, class.key().name));
        let answer = self.query(&QueryRequest::new().input(input, key).output(feature.as_str()));
        match answer.data.into_iter().find(|value| value.field == feature) {
            Some(AnswerValue { error: None, value, .. }) => Ok(value),
            Some(AnswerValue { error: Some(error), .. }) => Err(error),
            None => {
                let is_of_it = |error: &&QueryError| error.feature.as_deref() == Some(&feature);
                let error = answer.errors.iter().find(is_of_it).or(answer.errors.first()).cloned();
                Err(error.unwrap_or_else(|| QueryError {
                    code: ErrorCode::InvalidQuery,
                    message: format!("{feature} is no feature of an entity"),
                    feature: Some(feature.clone()),
                    resolver: None,
                }))
            }
        }
    }
}
