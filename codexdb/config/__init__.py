"""Codex's config.toml: layers, profiles, providers, overrides. No I/O but reading those files."""
