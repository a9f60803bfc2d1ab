"""Tables and columns that rows of a message go to, for handlers of databases."""
