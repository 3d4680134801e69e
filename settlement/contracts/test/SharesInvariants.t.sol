// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {MachineShares} from "../src/MachineShares.sol";
import {SharesHandler} from "./SharesHandler.sol";
import {TestToken} from "./Tokens.sol";
import {vm} from "./Vm.sol";

/// @notice What holds of shares after any number of actions in any order.
contract SharesInvariantsTest {
    SharesHandler private handler;
    MachineShares private shares;
    TestToken private token;

    function setUp() public {
        handler = new SharesHandler();
        shares = MachineShares(handler.sharesAddress());
        token = TestToken(handler.tokenAddress());
    }

    function targetContracts() public view returns (address[] memory targets) {
        targets = new address[](1);
        targets[0] = address(handler);
    }

    struct FuzzSelector {
        address addr;
        bytes4[] selectors;
    }

    function targetSelectors() public view returns (FuzzSelector[] memory targets) {
        bytes4[6] memory chosen = [
            SharesHandler.arrive.selector,
            SharesHandler.syncNow.selector,
            SharesHandler.letTimePass.selector,
            SharesHandler.transfer.selector,
            SharesHandler.buyShares.selector,
            SharesHandler.withdrawSome.selector
        ];
        targets = new FuzzSelector[](1);
        targets[0] = FuzzSelector(address(handler), new bytes4[](chosen.length));
        for (uint256 i = 0; i < chosen.length; ++i) {
            targets[0].selectors[i] = chosen[i];
        }
    }

    function invariant_shares_hold() public view {
        vm.assertEq(shares.received(), handler.received(), "received is the sum of what was noted");
        vm.assertEq(shares.released(), handler.released(), "released is the sum over arrivals");
        uint256 supply = shares.totalSupply();
        uint256 withdrawable = 0;
        uint256 withdrawn = 0;
        uint256 owing = 0;
        uint256 held = 0;
        for (uint256 i = 0; i < handler.HOLDERS(); ++i) {
            address holder = handler.holders(i);
            vm.assertEq(shares.balanceOf(holder), handler.held(i), "shares held");
            vm.assertEq(shares.withdrawable(holder), handler.owing(i) / supply, "what the holder is owed");
            withdrawable += shares.withdrawable(holder);
            withdrawn += handler.paid(i);
            owing += handler.owing(i);
            held += handler.held(i);
        }
        vm.assertEq(held, supply, "the supply is fixed");
        vm.assertEq(shares.withdrawn(), withdrawn, "withdrawn is the sum of withdrawals");
        vm.assertEq(owing + withdrawn * supply, shares.released() * supply, "every released unit is some holder's");
        vm.assertLe(withdrawn + withdrawable, shares.released(), "withdrawn + withdrawable <= released");
        vm.assertLe(shares.released(), withdrawn + withdrawable + handler.HOLDERS(), "within a unit a holder");
        vm.assertLe(shares.released(), shares.received(), "released <= received");
        vm.assertEq(
            token.balanceOf(address(shares)) + withdrawn,
            shares.received() + handler.unseen(),
            "what arrived is here or was withdrawn"
        );
        vm.assertLe(handler.offering().sold(), handler.offering().cap(), "sold <= cap");
        vm.assertEq(handler.paidForShares(), handler.offering().sold() * handler.offering().price(), "at the price");
    }

    function afterInvariant() public {
        handler.payEverything();
        invariant_shares_hold();
        vm.assertEq(shares.released(), shares.received(), "in the end all is released");
    }
}
