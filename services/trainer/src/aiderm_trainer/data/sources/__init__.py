"""Sources of labelled images: folders, tables and the ISIC Archive."""
