"""The MCP server over stdio: from bytes on two file descriptors to calls of the service, and back."""
