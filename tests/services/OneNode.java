import java.nio.file.Path;
import java.util.List;
import java.util.Map;
import org.opensearch.common.settings.Settings;
import org.opensearch.env.Environment;
import org.opensearch.http.HttpServerTransport;
import org.opensearch.node.InternalSettingsPreparer;
import org.opensearch.node.Node;
import org.opensearch.plugins.Plugin;
import org.opensearch.transport.Netty4Plugin;

/** One node of OpenSearch on loopback. Prints its port, and ends with its standard input. */
public class OneNode extends Node {
    OneNode(Environment environment) {
        super(environment, List.<Class<? extends Plugin>>of(Netty4Plugin.class), false);
    }

    public static void main(String[] arguments) throws Exception {
        Path home = Path.of(arguments[0]);
        Settings settings = Settings.builder()
            .put("path.home", home.toString())
            .put("path.data", home.resolve("data").toString())
            .put("cluster.name", "lockstep-tests")
            .put("node.name", "one")
            .put("discovery.type", "single-node")
            .put("network.host", "127.0.0.1")
            .put("http.port", "0")
            .put("transport.port", "0")
            .put("http.type", "netty4")
            .put("transport.type", "netty4")
            .put("cluster.max_shards_per_node", 10000)
            .put("cluster.routing.allocation.disk.threshold_enabled", false)
            .build();
        Environment environment = InternalSettingsPreparer.prepareEnvironment(settings, Map.of(), null, () -> "one");
        Node node = new OneNode(environment).start();
        HttpServerTransport http = node.injector().getInstance(HttpServerTransport.class);
        System.out.println("http " + http.boundAddress().publishAddress().getPort());
        System.out.flush();
        while (System.in.read() >= 0) {}
        // What it held is thrown away by whoever started it.
        Runtime.getRuntime().halt(0);
    }
}
