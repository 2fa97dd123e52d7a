"""The web console: a page in the browser, over HTTP and WebSockets, that needs nothing but this server."""
