"""codexdb: coding-agent sessions over MCP whose whole running state lives in database rows.

Importing this package does nothing but define the version.
"""

__version__ = "0.1.0"
