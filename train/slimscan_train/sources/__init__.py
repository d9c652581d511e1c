"""Where the records of a data set come from: folders or a table, as people have them."""
