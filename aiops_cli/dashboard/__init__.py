"""The queue, the history and the knowledge base in a browser, by Streamlit.

`commands/dashboard.py` starts it. `acts` reads and acts through the services that the command line
uses, `values` makes of it what is shown; both know no Streamlit. The pages only show. A text that
came from a log, from Airflow or from a person is shown by `st.text`, `st.code` or in a data frame,
never by what reads Markdown.

No file here may have the name of another module: Streamlit puts this folder first on the path.
"""
