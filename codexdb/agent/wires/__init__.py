"""The two protocols of model endpoints: a request as their JSON, their streams as `ModelEvent`s. Pure; no sockets."""
