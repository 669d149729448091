"""Where rows come from: folders, tables and the ISIC Archive."""
