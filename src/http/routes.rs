//! The list of endpoints: each with its handler and its description, so that none can be served and not be documented.

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::Method;
use axum::routing::{MethodFilter, on};

use super::answer::Answer;
use super::call::Input;
use super::doc::Operation;
use super::error::ApiError;
use super::metrics::{Endpoint, Meter};
use super::{Shared, accept};

/// Endpoints and what is said of them.
pub(super) struct Routes {
    router: Router<Shared>,
    listed: Vec<Route>,
}

/// One endpoint.
pub(super) struct Route {
    /// Its method.
    pub(super) method: Method,
    /// Its path, as the router matches it.
    pub(super) path: &'static str,
    /// What is said of it.
    pub(super) operation: Operation,
    /// What is counted of it.
    endpoint: Arc<Endpoint>,
}

impl Routes {
    /// No endpoints.
    pub(super) fn new() -> Routes {
        Routes {
            router: Router::new(),
            listed: Vec::new(),
        }
    }

    /// An endpoint that reads. It takes HEAD too, as the router answers that without the body.
    pub(super) fn get<F, A>(self, path: &'static str, handler: F, operation: Operation) -> Routes
    where
        F: Fn(State<Shared>, Input) -> A + Clone + Send + Sync + 'static,
        A: Future<Output = Result<Answer, ApiError>> + Send + 'static,
    {
        self.add(Method::GET, path, handler, operation)
    }

    /// An endpoint that creates or acts.
    pub(super) fn post<F, A>(self, path: &'static str, handler: F, operation: Operation) -> Routes
    where
        F: Fn(State<Shared>, Input) -> A + Clone + Send + Sync + 'static,
        A: Future<Output = Result<Answer, ApiError>> + Send + 'static,
    {
        self.add(Method::POST, path, handler, operation)
    }

    /// An endpoint that creates or replaces.
    pub(super) fn put<F, A>(self, path: &'static str, handler: F, operation: Operation) -> Routes
    where
        F: Fn(State<Shared>, Input) -> A + Clone + Send + Sync + 'static,
        A: Future<Output = Result<Answer, ApiError>> + Send + 'static,
    {
        self.add(Method::PUT, path, handler, operation)
    }

    /// An endpoint that removes.
    pub(super) fn delete<F, A>(self, path: &'static str, handler: F, operation: Operation) -> Routes
    where
        F: Fn(State<Shared>, Input) -> A + Clone + Send + Sync + 'static,
        A: Future<Output = Result<Answer, ApiError>> + Send + 'static,
    {
        self.add(Method::DELETE, path, handler, operation)
    }

    /// What its handler cannot answer in a media type that the client accepts, it is not asked for.
    fn add<F, A>(
        mut self,
        method: Method,
        path: &'static str,
        handler: F,
        operation: Operation,
    ) -> Routes
    where
        F: Fn(State<Shared>, Input) -> A + Clone + Send + Sync + 'static,
        A: Future<Output = Result<Answer, ApiError>> + Send + 'static,
    {
        let made = operation.made();
        let endpoint = Arc::new(Endpoint::new(&method, path));
        let counted = endpoint.clone();
        let guarded = move |app: State<Shared>, Input(call): Input| {
            call.endpoint.get_or_init(|| counted.clone());
            let answer = accept::choose(&call.headers, made).map(|_| handler(app, Input(call)));
            async move { answer?.await }
        };
        let filter = MethodFilter::try_from(method.clone()).expect("a method the router knows");
        self.router = self.router.route(path, on(filter, guarded));
        self.listed.push(Route {
            method,
            path,
            operation,
            endpoint,
        });
        self
    }

    /// These and the others.
    pub(super) fn merge(mut self, others: Routes) -> Routes {
        self.router = self.router.merge(others.router);
        self.listed.extend(others.listed);
        self
    }

    /// Every endpoint, in the order they were listed.
    pub(super) fn listed(&self) -> &[Route] {
        &self.listed
    }

    /// What counts requests to them.
    pub(super) fn meter(&self) -> Meter {
        let endpoints = self.listed.iter().map(|route| route.endpoint.clone());
        Meter::new(endpoints.collect())
    }

    /// What serves them.
    pub(super) fn into_router(self) -> Router<Shared> {
        self.router
    }
}
