"""What MkDocs needs beside the pages: links out of ``docs``, reference pages, formulas."""
